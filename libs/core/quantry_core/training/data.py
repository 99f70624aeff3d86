"""Which datasets each method learns from."""

from __future__ import annotations

from quantry_core.datasets import DatasetKind
from quantry_core.training.names import TrainingMethod

_ANSWERED = frozenset({DatasetKind.PROMPTS, DatasetKind.CHAT})

TAKEN_KINDS: dict[TrainingMethod, frozenset[DatasetKind]] = {
    TrainingMethod.SUPERVISED: _ANSWERED | {DatasetKind.TEXT, DatasetKind.ROWS},
    TrainingMethod.DPO: frozenset({DatasetKind.PREFERENCES}),
    # A pair is taken apart into a good answer and a bad one.
    TrainingMethod.KTO: frozenset({DatasetKind.LABELLED, DatasetKind.PREFERENCES}),
    TrainingMethod.ORPO: frozenset({DatasetKind.PREFERENCES}),
    # The answer is what rewards compare with.
    TrainingMethod.GRPO: _ANSWERED,
    TrainingMethod.RLOO: _ANSWERED,
}
"""Kinds of datasets by the method that can learn from them."""

SCORED_KINDS = TAKEN_KINDS[TrainingMethod.SUPERVISED]
"""Kinds whose answers, or whose text, have a log-loss of their own."""


def not_learned_from(method: TrainingMethod, kind: DatasetKind) -> str | None:
    """Returns why a method cannot learn from a dataset of this kind, with what it takes; None if it can."""
    taken = TAKEN_KINDS[method]
    if kind in taken:
        return None
    methods = sorted(other for other, kinds in TAKEN_KINDS.items() if kind in kinds)
    return f"method {method} learns from datasets of kind {' or '.join(sorted(taken))}, and this one is {kind}: take {' or '.join(methods)}"


def not_scored(kind: DatasetKind) -> str | None:
    """Returns why models cannot be judged by the log-loss of a dataset's answers; None if they can."""
    if kind in SCORED_KINDS:
        return None
    return f"log-loss is of answers or text, {' or '.join(sorted(SCORED_KINDS))}, and this one is {kind}"
