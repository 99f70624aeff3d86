"""What the gate sees of a quantized checkpoint, whatever its layout.

``out`` and ``in`` are the sides of a Linear's weight [out, in]; G is the number of groups along ``in`` that share a scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from quantry_core.checkpoints import CheckpointInfo
from quantry_core.linears import Shape
from quantry_core.methods import Granularity, NumberType
from quantry_worker.child.numerics.tensors import TensorReader

Float32 = NDArray[np.float32]


class StatedWeights(NamedTuple):
    """How a checkpoint says that a module's weights are stored."""

    bits: float
    number_type: NumberType
    granularity: Granularity
    group_size: int | None
    symmetric: bool


@dataclass(frozen=True)
class Part:
    """What a tensor of a module must be. Either shape may stand where two libraries write it differently."""

    dtypes: frozenset[str]
    shapes: tuple[tuple[int, ...], ...]
    is_optional: bool = False


@dataclass(frozen=True)
class Levels:
    """Where the levels of a module lie: all that can be wrong with them without a look at the weights."""

    scales: Mapping[str, Float32]
    """By tensor; each must be finite and positive."""
    may_be_one: frozenset[str] = frozenset()
    """Scales among them that 1 is a good value of."""
    zero_points: NDArray[np.int64] | None = None
    """As unsigned levels, so that 0 is the lowest."""
    num_levels: int = 0
    """Zero points lie below it."""
    problems: list[str] = field(default_factory=list)
    """What this layout alone can get wrong."""


class StoredModule(Protocol):
    """One quantized module."""

    @property
    def shape(self) -> Shape:
        """(out, in)."""
        ...

    @property
    def stated(self) -> StatedWeights: ...

    def parts(self) -> Mapping[str, Part]:
        """Returns the tensors that must be there, by name."""
        ...

    def levels(self) -> Levels:
        """Returns scales and zero points; its parts must be as stated."""
        ...

    def blocks(self, block_weights: int) -> Iterator[Float32]:
        """Yields the dequantized weight, consecutive rows [some, in] of ``row_spans``; its parts must be as stated."""
        ...


@dataclass(frozen=True)
class StoredCheckpoint:
    """A quantized checkpoint: the modules that it says are quantized, and every tensor by its master's name."""

    info: CheckpointInfo
    """Headers; a tensor that the layout renames is here under its name in the master."""
    reader: TensorReader
    modules: Mapping[str, StoredModule]
    problems: list[str] = field(default_factory=list)
    """What its own account of itself gets wrong."""
    has_kv_scheme: bool = False
    is_converted: bool = False
    """Tensors that are not quantized were converted too, so that they have the master's values but not its bytes."""
    opaque: str = ""
    """Why the dequantized weights cannot be read, where they cannot."""

    def has_parts(self, module: StoredModule) -> bool:
        """Tells whether a module's tensors have the form that its numbers are read by."""
        return not part_problems(module, self.info)


def part_problems(module: StoredModule, info: CheckpointInfo) -> list[str]:
    """Returns what is wrong with the tensors of a module, judged by their headers."""
    problems = []
    for name, part in module.parts().items():
        tensor = info.tensors.get(name)
        if tensor is None:
            if not part.is_optional:
                problems.append(f"tensor {name} is missing")
        elif tensor.dtype not in part.dtypes or tensor.shape not in part.shapes:
            expected = f"{'/'.join(sorted(part.dtypes))} {' or '.join(str(list(shape)) for shape in part.shapes)}"
            problems.append(f"{name} is {tensor.dtype} {list(tensor.shape)}, expected is {expected}")
    return problems


def row_spans(shape: Shape, block_weights: int) -> Iterator[tuple[int, int]]:
    """Yields first row and number of rows of consecutive blocks of about ``block_weights`` weights."""
    num_rows, in_features = shape
    step = max(1, block_weights // in_features)
    for start in range(0, num_rows, step):
        yield start, min(step, num_rows - start)


def spread_groups(per_group: Float32, in_features: int) -> Float32:
    """Returns [rows, G] as [rows, in], each group's value for all of its inputs."""
    return np.repeat(per_group, in_features // per_group.shape[1], axis=1)
