"""Adapters as numbers: what LoRA, DoRA and rsLoRA add to a weight W of shape [out, in], with A [rank, in] and B [out, rank].

LoRA: W' = W + alpha / rank * B A (Hu et al. 2021, arXiv:2106.09685). rsLoRA: alpha / sqrt(rank) in its place (Kalajdzievski 2023,
arXiv:2312.03732). DoRA: W' = m * V / |V| row by row, V = W + alpha / rank * B A (Liu et al. 2024, arXiv:2402.09353).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.adapters import WEIGHTS_PATH, AdapterInfo, inspect_adapter
from quantry_core.errors import InvalidInput
from quantry_core.linears import Shape
from quantry_core.training import AdapterKind
from quantry_worker.child.plan import names_in_words

PREFIX = "base_model.model."
"""Of the names of modules in an adapter's file."""


@dataclass(frozen=True)
class Adapter:
    """An adapter's folder whose headers were read."""

    directory: Path
    info: AdapterInfo
    shapes: Mapping[str, Shape]
    """(out, in) of each module that it changes."""

    @property
    def scale(self) -> float:
        """What B A is multiplied by."""
        rank = self.info.rank
        return self.info.alpha / (math.sqrt(rank) if self.info.kind is AdapterKind.RSLORA else rank)

    def update(self, module: str, weight: torch.Tensor) -> torch.Tensor:
        """Returns W' - W of a module, [out, in] in the dtype of its weight W, which is [out, in] too."""
        names = {part: f"{PREFIX}{module}.{part}" for part in ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector")}
        with safe_open(self.directory / WEIGHTS_PATH, framework="pt") as file:
            a, b = (file.get_tensor(names[part]).to(weight.dtype) for part in ("lora_A.weight", "lora_B.weight"))
            update: torch.Tensor = self.scale * (b @ a)
            if self.info.kind is not AdapterKind.DORA:
                return update
            magnitude = file.get_tensor(names["lora_magnitude_vector"]).to(weight.dtype)
        direction = weight + update
        return (magnitude / direction.norm(dim=1))[:, None] * direction - weight


def read_adapter(directory: Path) -> Adapter:
    """Returns the adapter of a folder; raises SourceRefused if it is none that can be read."""
    info = inspect_adapter(DirectoryCheckpoint(directory))
    shapes: dict[str, Shape] = {}
    with safe_open(directory / WEIGHTS_PATH, framework="pt") as file:
        for module in info.modules:
            (in_features,) = file.get_slice(f"{PREFIX}{module}.lora_A.weight").get_shape()[1:]
            shapes[module] = (file.get_slice(f"{PREFIX}{module}.lora_B.weight").get_shape()[0], in_features)
    return Adapter(directory, info, shapes)


def check_fits(adapter: Adapter, linears: Mapping[str, Shape], *, words: str, base: str) -> None:
    """Raises InvalidInput naming what an adapter changes and the base does not have, or has in another shape.

    ``linears`` are the base's linear modules with their (out, in); ``words`` and ``base`` are what both are called in the error.
    """
    missing = sorted(adapter.shapes.keys() - linears.keys())
    if missing:
        raise InvalidInput(f"{words} does not fit {base}, which has no linear module {names_in_words(missing)}")
    other = [
        f"{name} ({_by(linears[name])}, the adapter's is {_by(shape)})" for name, shape in adapter.shapes.items() if linears[name] != shape
    ]
    if other:
        raise InvalidInput(f"{words} does not fit {base}, which has other shapes: {names_in_words(other)}")


def _by(shape: Shape) -> str:
    return f"{shape[0]} x {shape[1]}"
