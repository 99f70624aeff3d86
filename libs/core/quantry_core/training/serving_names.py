"""What an adapter is called at the gateway where a fine-tune job attaches it."""

from __future__ import annotations

from quantry_core.names import MAX_NAME_CHARS

DEFAULT_SUFFIX = "ft"
NUM_ID_CHARS = 6


def served_name(deployment: str, suffix: str | None, job_id: str) -> str:
    """Returns ``<deployment>-<suffix, or ft>-<last 6 characters of the job's id>``, a Name.

    A deployment's name that would make it too long is cut; the job's characters keep it apart from others.
    """
    tail = f"-{suffix or DEFAULT_SUFFIX}-{job_id[-NUM_ID_CHARS:]}"
    return deployment[: MAX_NAME_CHARS - len(tail)] + tail
