"""The function that adapters were trained to be, as a model: their base with the update, in float32, nothing rounded after."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig

from quantry_worker.child.merging.combine import Combination
from quantry_worker.child.merging.weights import Weights
from quantry_worker.child.merging.write import merged_tensor
from quantry_worker.child.numerics.dequantized import model_of


def float32_model(weights: Weights, combination: Combination) -> Any:
    """Returns the causal language model of merged weights in evaluation mode, before they are rounded to 16 bits."""
    updated = {f"{module}.weight" for module in combination.modules}
    tensors = {
        name: merged_tensor(weights, combination, name) if name in updated else weights.tensor(name) for name in weights.master.tensors
    }
    config = AutoConfig.from_pretrained(weights.master_dir, local_files_only=True, trust_remote_code=False)
    return model_of(config, tensors).eval()
