"""Linear modules of a checkpoint, told by names and shapes alone, and the patterns by which a spec names them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Protocol

Shape = tuple[int, int]
"""(out_features, in_features), as a Linear's weight is stored."""

EMBEDDING_NAMES = frozenset({"wte", "wpe", "shared"})
NEOX_OUTPUT_LAYER = "embed_out"
"""GPT-NeoX calls its output layer so: a Linear, in spite of its name."""


class Shaped(Protocol):
    """A tensor as far as its shape is known, such as safetensors.TensorInfo."""

    @property
    def shape(self) -> tuple[int, ...]: ...


def linear_modules(tensors: Mapping[str, Shaped], transposed: Collection[str] = ()) -> dict[str, Shape]:
    """Returns the Linear modules of a 16-bit checkpoint by name: every weight matrix that is not an embedding table.

    ``transposed`` are last names of modules whose weight is stored as (in, out), as GPT-2 does; Family.transposed says which.
    """
    modules: dict[str, Shape] = {}
    for name, tensor in tensors.items():
        module, _, kind = name.rpartition(".")
        if kind != "weight" or len(tensor.shape) != 2 or is_embedding(module):
            continue
        rows, columns = tensor.shape
        modules[module] = (columns, rows) if module.rpartition(".")[2] in transposed else (rows, columns)
    return dict(sorted(modules.items()))


def is_embedding(module: str) -> bool:
    """Tells whether a module is an embedding table, by its name."""
    last = module.rpartition(".")[2]
    return last in EMBEDDING_NAMES or ("embed" in last and last != NEOX_OUTPUT_LAYER)


def is_named(module: str, patterns: Iterable[str]) -> bool:
    """Tells whether a module is one of ``patterns``: exact names or globs.

    In a glob ``*`` stands for any characters, dots included, ``?`` for one, and ``[ab]`` for one of those.
    """
    return any(pattern == module or fnmatchcase(module, pattern) for pattern in patterns)
