"""The master as a transformers model, and what a backend must give back as it was: dtypes and plain tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from quantry_core.checkpoints import CheckpointInfo, check_master
from quantry_core.errors import InvalidInput
from quantry_core.families import family_of
from quantry_worker.child.backends.table import QuantizationOrder
from quantry_worker.child.plan import QuantizationPlan, names_in_words

TORCH_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


def load_master(directory: Path, dtype: torch.dtype, **settings: Any) -> Any:
    """Returns the model in ``dtype``, from local safetensors only and with no code of the checkpoint's own.

    ``settings`` are further arguments of transformers' from_pretrained, such as quantization_config.
    """
    return AutoModelForCausalLM.from_pretrained(
        directory, dtype=dtype, local_files_only=True, trust_remote_code=False, use_safetensors=True, **settings
    )


def weights_dtype(master: CheckpointInfo) -> torch.dtype:
    """Returns the dtype of the master's matrices, float16 or bfloat16."""
    dtype: torch.dtype = getattr(torch, check_master(master))
    return dtype


def check_linears(model: Any, plan: QuantizationPlan) -> list[str]:
    """Returns the Linear modules that are no targets; raises InvalidInput naming targets that are no Linear of the loaded model."""
    linears = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    missing = set(plan.targets) - linears
    if missing:
        raise InvalidInput(
            f"a {model.config.model_type} model keeps its weights in another form than its file says, at {names_in_words(missing)}: "
            f"method {plan.method.method} quantizes plain Linear modules; ignore these"
        )
    return sorted(linears - set(plan.targets))


def restore_dtypes(model: Any, master: CheckpointInfo) -> None:
    """Casts floating tensors to their dtype in the master; what is new (the scales) to the dtype of the weights."""
    dtype = weights_dtype(master)
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point():
            known = master.tensors.get(name)
            parameter.data = parameter.data.to(dtype if known is None else TORCH_DTYPES[known.dtype])
    model.config.dtype = dtype


def restore_tensors(model: Any, order: QuantizationOrder) -> None:
    """Puts the master's own values back into floating tensors that were loaded in another dtype than they have there."""
    for name, parameter in model.named_parameters():
        known = order.master.tensors.get(name)
        if known is not None and parameter.is_floating_point() and parameter.dtype is not TORCH_DTYPES[known.dtype]:
            with safe_open(order.master_dir / order.master.tensor_files[name], framework="pt") as shard:
                parameter.data = shard.get_tensor(name).to(parameter.device)


def modules_left_alone(plan: QuantizationPlan, master_config: Mapping[str, Any]) -> list[str]:
    """Returns what a library must be told to leave at 16 bit: the kept modules, and the output layer unless it is a target.

    A tied output layer has no weight of its own but is a Linear of the model all the same.
    """
    return sorted({*family_of(master_config).output_layers, *plan.kept} - set(plan.targets))
