"""The weights that are trained, apart from those that are not: kept while a run goes on, and put back. Safetensors, no pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor, distribute_tensor


def trained_weights(model: Any) -> dict[str, torch.Tensor]:
    """Returns what is trained by name, on the CPU; where processes hold shards of it, all of them must call this."""
    return {name: _whole(parameter).to("cpu").contiguous() for name, parameter in model.named_parameters() if parameter.requires_grad}


def write_weights(path: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Writes tensors as one file, which is there in whole or as it was."""
    written = path.with_suffix(".new")
    save_file(tensors, written)
    written.rename(path)


def restore_weights(model: Any, path: Path) -> None:
    """Puts back what ``write_weights`` has written of this model; raises KeyError for a name that it has not."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in load_file(path).items():
            parameter = parameters[name]
            if isinstance(parameter, DTensor):
                shard = distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)
                parameter.copy_(shard)
            else:
                parameter.copy_(tensor)


def unshard(model: Any) -> None:
    """Has each process hold whole parameters in place of shards, for a model that is only written; all of them must call this."""
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if isinstance(parameter, DTensor):
                whole = torch.nn.Parameter(parameter.detach().full_tensor(), requires_grad=parameter.requires_grad)
                module.register_parameter(name, whole)


def _whole(parameter: torch.Tensor) -> torch.Tensor:
    detached = parameter.detach()
    whole: torch.Tensor = detached.full_tensor() if isinstance(detached, DTensor) else detached
    return whole
