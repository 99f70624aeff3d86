"""The master as a transformers model, and what a backend must give back as it was: dtypes, plain tensors and config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from quantry_core.checkpoints import CheckpointInfo, check_master
from quantry_core.errors import InvalidInput
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


def check_linears(model: Any, plan: QuantizationPlan) -> None:
    """Raises InvalidInput naming targets that are no Linear module of the model once it is loaded."""
    linears = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    missing = set(plan.targets) - linears
    if missing:
        raise InvalidInput(
            f"a {model.config.model_type} model keeps its weights in another form than its file says, at {names_in_words(missing)}: "
            f"method {plan.method.method} quantizes plain Linear modules; ignore these"
        )


def restore_dtypes(model: Any, master: CheckpointInfo) -> None:
    """Casts floating tensors to their dtype in the master; what is new (the scales) to the dtype of the weights."""
    dtype = weights_dtype(master)
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point():
            known = master.tensors.get(name)
            parameter.data = parameter.data.to(dtype if known is None else TORCH_DTYPES[known.dtype])
    model.config.dtype = dtype


def restore_tensors(model: Any, order: QuantizationOrder) -> None:
    """Puts the master's own values back into float32 tensors that were loaded in 16 bit."""
    wanted = {name: info for name, info in order.master.tensors.items() if TORCH_DTYPES[info.dtype] is torch.float32}
    for name, parameter in model.named_parameters():
        if name in wanted and parameter.is_floating_point() and parameter.dtype is not torch.float32:
            with safe_open(order.master_dir / order.master.tensor_files[name], framework="pt") as shard:
                parameter.data = shard.get_tensor(name).to(parameter.device)


def write_config(order: QuantizationOrder, quantization_config: dict[str, Any] | None) -> None:
    """Writes the master's own config.json with quantization_config added: transformers rewrites it in its own version's words."""
    added = {} if quantization_config is None else {"quantization_config": quantization_config}
    text = json.dumps(order.master.config | added, indent=2, ensure_ascii=False)
    (order.output_dir / "config.json").write_text(text + "\n", encoding="utf-8")
