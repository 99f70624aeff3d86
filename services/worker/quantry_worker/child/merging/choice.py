"""Which of the measured ways is taken: a rule on numbers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any

from quantry_core.training import MergeTarget
from quantry_core.versions import EvidenceDraft, EvidenceKind, Verdict
from quantry_worker.child.merging.losses import Losses, change

RULE = "the lowest mean log-loss of the answers in validation_file"
CHOICE = "choice"
"""The evidence's name."""


def way_evidence(way: MergeTarget) -> str:
    """Returns the name of the evidence about a way."""
    return f"way-{way}"


def choose(losses: Mapping[MergeTarget, Losses]) -> MergeTarget:
    """Returns the way of the lowest loss; of equal ones the first."""
    return min(losses, key=lambda way: losses[way].mean_nats)


def choice_evidence(losses: Mapping[MergeTarget, Losses], *, seed: int) -> EvidenceDraft:
    """Returns what was chosen, by how much it is better than each other way, and whether that is more than chance."""
    chosen = choose(losses)
    pairs = [
        {"way": first.value, "against": second.value} | change(losses[first], losses[second], seed=seed)
        for first, second in combinations(losses, 2)
    ]
    against = {way: change(losses[chosen], losses[way], seed=seed) for way in losses if way is not chosen}
    is_beyond_noise = all((one["nll_increase_high_nats"] or 0.0) < 0 for one in against.values())
    metrics: dict[str, Any] = {
        "choice": chosen.value,
        "rule": RULE,
        "nll_mean": {way.value: one.mean_nats for way, one in losses.items()},
        "differences": pairs,
        "is_beyond_noise": is_beyond_noise,
        "within_noise_of_choice": [way.value for way, one in against.items() if not (one["nll_increase_high_nats"] or 0.0) < 0],
        "seed": seed,
    }
    verdict = Verdict.PASS if is_beyond_noise else Verdict.INCONCLUSIVE
    return EvidenceDraft(kind=EvidenceKind.EVALUATION, name=CHOICE, verdict=verdict, metrics=metrics)
