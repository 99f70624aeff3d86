"""Learning rates where none is given: what a method takes without harm, of an adapter and of all weights."""

from __future__ import annotations

from quantry_core.training.names import TrainingMethod

FULL_RATES: dict[TrainingMethod, float] = {
    TrainingMethod.SUPERVISED: 2e-5,
    TrainingMethod.DPO: 1e-6,
    TrainingMethod.KTO: 1e-6,
    TrainingMethod.ORPO: 1e-6,
    TrainingMethod.GRPO: 1e-6,
    TrainingMethod.RLOO: 1e-6,
}
"""Of all weights: the defaults of TRL 1.16."""
ADAPTER_RATES: dict[TrainingMethod, float] = {
    TrainingMethod.SUPERVISED: 2e-4,
    TrainingMethod.DPO: 1e-5,
    TrainingMethod.KTO: 1e-5,
    TrainingMethod.ORPO: 1e-5,
    TrainingMethod.GRPO: 1e-5,
    TrainingMethod.RLOO: 1e-5,
}
"""Of an adapter: ten times as much, for its weights are new. Supervised it is the 2e-4 of Dettmers et al. 2023, arXiv:2305.14314."""
