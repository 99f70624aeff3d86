"""How requests ended: told once for each, to whoever counts, samples or keeps them. Nobody waits for that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class OutcomeKind(StrEnum):
    """answered: whole. failed: the release's fault. refused: queue or limit full. rejected: the client's fault, as the engine says.
    given_up: the client went first."""

    ANSWERED = "answered"
    FAILED = "failed"
    REFUSED = "refused"
    REJECTED = "rejected"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One request that reached a release. Times are those of time.monotonic, in seconds."""

    kind: OutcomeKind
    request_id: str
    key_id: str
    project_id: str
    deployment_id: str
    release_id: str
    path: str
    body: bytes
    """Of the request, as it came."""
    began_s: float
    ended_s: float
    first_byte_s: float | None = None
    """When the first byte of a streamed answer was passed on; None for whole answers and where there was none."""
    num_events: int = 0
    """Of a streamed answer."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    """As the answer said; None where it did not."""
    is_filtered: bool = False
    num_retried: int = 0
    answer_id: str | None = None
    """The id in the answer's body (``chatcmpl-...``), by which feedback may name it."""


OutcomeSink = Callable[[Outcome], None]
"""Takes an outcome at once: it must not block."""
