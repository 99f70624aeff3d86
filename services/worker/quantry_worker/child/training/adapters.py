"""Which modules carry an adapter, and the adapter itself: made, and written as a version's files."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, TaskType, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers.pytorch_utils import Conv1D

from quantry_core.adapters import CONFIG_PATH, WEIGHTS_PATH
from quantry_core.errors import InvalidInput
from quantry_core.jobs.specs.finetune import AdapterSpec
from quantry_core.linears import Shape
from quantry_core.training import AdapterKind
from quantry_core.training.targets import check_rank, targeted_modules

FILE_MODE = 0o644


def attach(model: Any, spec: AdapterSpec) -> Any:
    """Returns the model with an adapter that changes nothing yet (B is zero), its weights float32 and all others frozen.

    Raises InvalidInput for targets that no linear module has, for a rank that is more than one of them can have, and for DoRA
    beside int8 weights on the CPU.
    """
    if spec.kind is AdapterKind.DORA and getattr(model, "is_loaded_in_8bit", False) and model.device.type == "cpu":
        raise InvalidInput("dora beside int8 weights needs a GPU: on the CPU, PEFT loses their scales; take lora or rslora, or nf4")
    targets = target_modules(model, spec)
    config = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=short_names(model, targets),
        use_dora=spec.kind is AdapterKind.DORA,
        use_rslora=spec.kind is AdapterKind.RSLORA,
        fan_in_fan_out=_are_transposed(model, targets),
    )
    return keep_float32(get_peft_model(model, config))


def keep_float32(model: Any) -> Any:
    """Returns the model with what is trained in float32: steps of an optimizer are lost in 16 bits."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def target_modules(model: Any, spec: AdapterSpec) -> list[str]:
    """Returns the names of the modules that carry the adapter, sorted; raises InvalidInput naming targets that match none."""
    linears = linear_modules(model)
    shapes = {name: _shape(module) for name, module in linears.items()}
    targets = targeted_modules(shapes, spec.target_modules)
    check_rank(shapes, targets, spec.rank)
    return targets


def linear_modules(model: Any) -> dict[str, Any]:
    """Returns the linear modules of a model by name, packed ones among them; the output layer cannot carry an adapter and is left out."""
    output = model.get_output_embeddings()
    return {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear | Conv1D) and module is not output}


def short_names(model: Any, targets: list[str]) -> list[str]:
    """Returns targets as PEFT takes them: the last parts of their names where those mean the same modules, the whole names else."""
    lasts = sorted({_last(name) for name in targets})
    meant = [name for name, _ in model.named_modules() if _last(name) in lasts]
    return lasts if sorted(meant) == sorted(targets) else sorted(targets)


def save_adapter(model: Any, directory: Path, base_ref: str) -> None:
    """Writes adapter_config.json and adapter_model.safetensors, mode 0644; the base is named, no path of this machine is."""
    tensors = {
        name: tensor.detach().to("cpu").contiguous()
        for name, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    save_file(tensors, directory / WEIGHTS_PATH, metadata={"format": "pt"})
    config = model.peft_config[model.active_adapter].to_dict()
    settings = {key: _plain(value) for key, value in config.items()} | {"base_model_name_or_path": base_ref, "inference_mode": True}
    (directory / CONFIG_PATH).write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    for name in (WEIGHTS_PATH, CONFIG_PATH):
        (directory / name).chmod(FILE_MODE)


def num_trained(model: Any) -> int:
    """Returns how many numbers are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def _are_transposed(model: Any, targets: Iterable[str]) -> bool:
    """Tells whether weights lie as [in, out], as GPT-2's do."""
    return all(isinstance(model.get_submodule(name), Conv1D) for name in targets)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    return getattr(value, "value", value)


def _shape(module: Any) -> Shape:
    """Returns (out, in) of a linear module, also of one whose weight is packed or transposed."""
    if isinstance(module, Conv1D):
        return int(module.nf), int(module.nx)
    return int(module.out_features), int(module.in_features)
