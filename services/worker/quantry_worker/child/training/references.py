"""What a trained model is compared with: the base itself, its adapter off, or a frozen copy where all weights are trained."""

from __future__ import annotations

import copy
from typing import Any

from peft import PeftModel

from quantry_worker.child.training.adapters import keep_float32

COPIED_ADAPTER = "ref"
"""TRL keeps a copy of the adapter as it was under this name, in case that it was trained before; of grpo where beta is not 0."""


def frozen_reference(model: Any) -> Any:
    """Returns a copy of a model that is trained whole, in evaluation mode and without gradients; None for one with an adapter."""
    if isinstance(model, PeftModel):
        return None
    return copy.deepcopy(model).requires_grad_(False).eval()


def without_copied_adapter(trainer: Any) -> Any:
    """Returns a trainer of TRL that compares with the base itself, and trains an adapter in float32.

    The adapter is new, so that its copy says what the base says, at the price of memory and of a second adapter in what is saved.
    TRL casts adapters of packed bases to bfloat16, in which small steps are lost.
    """
    if isinstance(trainer.model, PeftModel):
        if COPIED_ADAPTER in trainer.model.peft_config:
            trainer.model.delete_adapter(COPIED_ADAPTER)
        keep_float32(trainer.model)
    return trainer
