"""How each module of a version is stored: bits on disk per weight, scales included, from headers alone. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from math import prod
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.families import family_of
from quantry_core.gguf import GgufTensor
from quantry_core.linears import linear_modules
from quantry_core.safetensors import TensorInfo


class StoredModule(BaseModel):
    """One weight matrix."""

    model_config = ConfigDict(frozen=True)

    name: str
    bits_per_weight: float = Field(description="Of all that belongs to it on disk: scales, zero points and orders too.")
    stored_as: str = Field(description="Types of its tensors, as the files name them: ``F16``, ``I32 and F16``, ``Q4_K``.")
    size_bytes: int


class StoredModules(BaseModel):
    """The weight matrices of a version, by name; embeddings are not among them."""

    model_config = ConfigDict(frozen=True)

    version_id: str
    data: list[StoredModule]
    note: str | None = Field(default=None, description="Why there are none; None where there are.")


def modules_of(tensors: Mapping[str, TensorInfo], base: Mapping[str, TensorInfo], config: Mapping[str, Any]) -> list[StoredModule]:
    """Returns the modules of a safetensors checkpoint. ``base``: the 16-bit one it was made from, whose shapes say how many weights
    each has; its own tensors, where it is of 16 bits itself. ``config``: the base's config.json.
    """
    shapes = linear_modules(base, family_of(config).transposed)
    parts: dict[str, list[str]] = defaultdict(list)
    for name in tensors:
        # The longest name that fits: modules do not lie in one another, but their parts have dots.
        module = name
        while module and module not in shapes:
            module = module.rpartition(".")[0]
        if module:
            parts[module].append(name)
    found = []
    for name, shape in shapes.items():
        if name not in parts:
            continue
        size_bytes = sum(tensors[part].size_bytes for part in parts[name])
        largest_first = sorted(parts[name], key=lambda part: -tensors[part].size_bytes)
        types = dict.fromkeys(tensors[part].dtype for part in largest_first)
        found.append(
            StoredModule(name=name, bits_per_weight=size_bytes * 8 / prod(shape), stored_as=" and ".join(types), size_bytes=size_bytes)
        )
    return found


def gguf_modules_of(tensors: Mapping[str, GgufTensor]) -> list[StoredModule]:
    """Returns the matrices of a GGUF file under the names that they have there."""
    found = []
    for name, tensor in sorted(tensors.items()):
        if len(tensor.shape) != 2 or name.startswith("token_embd."):
            continue
        size_bytes = tensor.end - tensor.begin
        bits = size_bytes * 8 / tensor.num_elements
        found.append(
            StoredModule(name=name.removesuffix(".weight"), bits_per_weight=bits, stored_as=tensor.type_name, size_bytes=size_bytes)
        )
    return found
