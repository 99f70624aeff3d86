"""Which module trains by which method: one literal table of module names.

Such a module has

- ``build(order) -> transformers.Trainer``: makes samples of the order's rows, by its overlong policy, counts them in
  ``order.counts``, and returns the trainer that learns from them. Its ``eval_dataset`` is what was held out.
- ``score(order, trainer) -> HeldOutScores``: what ``trainer.model`` as it is now makes of the held-out rows. Called before the
  first step and, with the best weights, after the last; it draws no random numbers that others count on.

Names, not modules: each imports a trainer of TRL, which takes seconds.
"""

from __future__ import annotations

from typing import Any, Protocol, cast

from quantry_core.training import TrainingMethod
from quantry_worker.child.libraries import load
from quantry_worker.child.training.order import HeldOutScores, TrainingOrder

SUPERVISED = "quantry_worker.child.training.supervised"
PREFERENCES = "quantry_worker.child.training.preferences"
LABELLED = "quantry_worker.child.training.labelled"
ODDS_RATIO = "quantry_worker.child.training.odds_ratio"
SAMPLING = "quantry_worker.child.training.sampling"

TRAINERS: dict[TrainingMethod, str] = {
    TrainingMethod.SUPERVISED: SUPERVISED,
    TrainingMethod.DPO: PREFERENCES,
    TrainingMethod.KTO: LABELLED,
    TrainingMethod.ORPO: ODDS_RATIO,
    TrainingMethod.GRPO: SAMPLING,
    TrainingMethod.RLOO: SAMPLING,
}


class Method(Protocol):
    """What such a module offers."""

    def build(self, order: TrainingOrder) -> Any: ...

    def score(self, order: TrainingOrder, trainer: Any) -> HeldOutScores: ...


def load_method(method: TrainingMethod) -> Method:
    """Returns the module that trains by a method; raises ImportError if a library is missing."""
    return cast(Method, load(TRAINERS[method]))
