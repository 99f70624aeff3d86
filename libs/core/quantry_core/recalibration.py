"""What worker and control plane both know of recalibrations."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from quantry_core.jobs.specs import RecalibrateSpec
from quantry_core.versions import Evidence

COMPARISON_PREFIX = "recalibration:"
"""Begins the name of the evidence that compares a candidate with the version that serves, on one corpus."""


def settings_of(spec: RecalibrateSpec) -> dict[str, object]:
    """Returns what decides a comparison beside the two versions and the corpus; every comparison's metrics say it."""
    return {
        "judged_by": spec.judged_by,
        "margin_nats": spec.margin_nats,
        "window_tokens": spec.window_tokens,
        "max_windows": spec.max_windows,
        "seed": spec.seed,
    }


def has_compared(spec: RecalibrateSpec, evidence: Iterable[Evidence], corpora: Collection[str]) -> bool:
    """Tells whether a version was compared with the one that serves before, on all these corpora (``name@number``), as ``spec`` asks."""
    asked = {"against_version_id": spec.serving, **settings_of(spec)}
    found = {
        one.name.removeprefix(COMPARISON_PREFIX)
        for one in evidence
        if one.name.startswith(COMPARISON_PREFIX) and asked.items() <= one.metrics.items()
    }
    return found >= set(corpora)
