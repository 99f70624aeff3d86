"""The weights that are trained, apart from those that are not: kept while a run goes on, and put back. Safetensors, no pickles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from safetensors.torch import load_file, save_file
from torch.distributed.tensor import DTensor, distribute_tensor

NOWHERE = torch.device("meta")


def write_trained(model: Any, path: Path) -> None:
    """Writes what is trained by name as one file, which is there in whole or as it was.

    The first process alone holds and writes it; where processes hold shards, all of them must call this.
    """
    is_first = PartialState().is_main_process
    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        whole = _whole(parameter)
        if is_first:
            tensors[name] = whole.to("cpu").contiguous()
    if is_first:
        written = path.with_suffix(".new")
        save_file(tensors, written)
        written.rename(path)


def restore_weights(model: Any, path: Path) -> None:
    """Puts back what ``write_trained`` has written of this model; raises KeyError for a name that it has not."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, tensor in load_file(path).items():
            parameter = parameters[name]
            if isinstance(parameter, DTensor):
                shard = distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)
                parameter.copy_(shard)
            else:
                parameter.copy_(tensor)


def unshard(model: Any, place: torch.device) -> None:
    """Has a model that is only written hold whole parameters in place of shards, gathered one after the other, away from the GPU.

    All processes must call this: the one that writes with the CPU as ``place``, the others with NOWHERE. What is tied stays so.
    """
    gathered: dict[DTensor, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False, remove_duplicate=False)):
            if not isinstance(parameter, DTensor):
                continue
            if parameter not in gathered:
                whole = parameter.detach().full_tensor().to(place)
                gathered[parameter] = torch.nn.Parameter(whole, requires_grad=parameter.requires_grad)
            module.register_parameter(name, gathered[parameter])


def _whole(parameter: torch.Tensor) -> torch.Tensor:
    detached = parameter.detach()
    whole: torch.Tensor = detached.full_tensor() if isinstance(detached, DTensor) else detached
    return whole
