"""What is measured around a training is computed as the training computes: no copy of the weights, and no optimizer beside them.

Before and after are then rounded alike, and what fits while it is trained fits while it is measured.
"""

from __future__ import annotations

from typing import Any

from quantry_worker.child.numerics.release import release_memory
from quantry_worker.child.training.order import HeldOutScores, TrainingOrder
from quantry_worker.child.training.table import Method


def score_held_out(method: Method, order: TrainingOrder, trainer: Any) -> HeldOutScores:
    """Returns what the method finds of what was held out, as the model is now."""
    with trainer.accelerator.autocast():
        return method.score(order, trainer)


def end_steps(trainer: Any) -> None:
    """Gives back what steps alone need: gradients, and the optimizer's states, whoever still holds the optimizer."""
    trainer.model.zero_grad(set_to_none=True)
    # There is none where a run goes on from its last step.
    if trainer.optimizer is not None:
        trainer.optimizer.state.clear()
    release_memory()


def trained_model(trainer: Any) -> Any:
    """Returns the model itself, in evaluation mode, its weights in the dtypes that they were trained in."""
    return trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False).eval()
