"""Integer weights as compressed-tensors stores them: packed into words (pack-quantized), or one a byte (int-quantized).

pack-quantized: ``weight_packed``, int32 [out, ceil(in * bits / 32)]: element i of a row lies at bits i * bits and up of the
row's little-endian bit stream, with 2 ** (bits - 1) added. ``weight_scale`` is [out, G], ``weight_shape`` holds (out, in).
Asymmetric schemes have ``weight_zero_point``, int32 [ceil(out * bits / 32), G]: zero points packed as weights are, but down
the columns. int-quantized: ``weight``, int8 [out, in]; zero points int8 [out, G]. A weight is (integer - zero point) * scale.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from quantry_core.layouts import WORD_BITS, num_groups
from quantry_core.linears import Shape
from quantry_worker.child.formats.stored import Float32, Levels, Part, StatedWeights, row_spans, spread_groups
from quantry_worker.child.numerics.tensors import TensorReader

BYTE_BITS = 8
SCALE_DTYPES = frozenset({"F16", "BF16", "F32"})
SHAPE_DTYPES = frozenset({"I32", "I64"})


def packed_columns(in_features: int, bits: int) -> int:
    """Returns how many int32 one packed row takes."""
    return ceil(in_features * bits / WORD_BITS)


def unpack_rows(packed: NDArray[np.int64], bits: int, in_features: int) -> NDArray[np.int8]:
    """Returns the signed integers, shape [rows, in_features], of packed rows, shape [rows, words] with a word's 32 bits each.

    ``bits`` is at most 8.
    """
    stream = np.ascontiguousarray(packed.astype("<i4")).view(np.uint8)
    if BYTE_BITS % bits == 0:
        unsigned = _elements_of_bytes(bits)[stream].reshape(len(packed), -1)[:, :in_features]
    else:
        # Elements run over the edges of bytes.
        elements = np.unpackbits(stream, axis=1, bitorder="little")[:, : in_features * bits].reshape(len(packed), in_features, bits)
        unsigned = np.packbits(elements, axis=2, bitorder="little")[:, :, 0]
    # Modulo 256 the subtraction is right for every unsigned element; read as int8 it has its sign.
    return (unsigned - np.uint8(1 << (bits - 1))).view(np.int8)


@dataclass(frozen=True)
class PackedIntegers:
    """A module of format pack-quantized."""

    name: str
    shape: Shape
    stated: StatedWeights
    tensors: TensorReader

    def parts(self) -> Mapping[str, Part]:
        out_features, in_features = self.shape
        groups, bits = num_groups(in_features, self.stated.group_size), int(self.stated.bits)
        parts = {
            "weight_packed": Part(frozenset({"I32"}), ((out_features, packed_columns(in_features, bits)),)),
            "weight_scale": Part(SCALE_DTYPES, ((out_features, groups),)),
            "weight_shape": Part(SHAPE_DTYPES, ((2,),)),
        }
        if not self.stated.symmetric:
            parts["weight_zero_point"] = Part(frozenset({"I32"}), ((packed_columns(out_features, bits), groups),))
        return {f"{self.name}.{part}": expected for part, expected in parts.items()}

    def levels(self) -> Levels:
        stated_shape = tuple(int(side) for side in self.tensors.integers(f"{self.name}.weight_shape"))
        wrong = [f"{self.name}.weight_shape says {list(stated_shape)}, the master's weight is {list(self.shape)}"]
        zero_points = self._zero_points()
        return Levels(
            {f"{self.name}.weight_scale": self.tensors.floats(f"{self.name}.weight_scale")},
            zero_points=None if zero_points is None else zero_points.astype(np.int64) + (1 << (int(self.stated.bits) - 1)),
            num_levels=1 << int(self.stated.bits),
            problems=wrong if stated_shape != self.shape else [],
        )

    def blocks(self, block_weights: int) -> Iterator[Float32]:
        return (self._rows(start, count) for start, count in row_spans(self.shape, block_weights))

    def _rows(self, start: int, count: int) -> Float32:
        packed = self.tensors.integer_rows(f"{self.name}.weight_packed", start, count)
        values = unpack_rows(packed, int(self.stated.bits), self.shape[1]).astype(np.float32)
        zero_points = self._zero_points()
        if zero_points is not None:
            values -= spread_groups(zero_points[start : start + count].astype(np.float32), self.shape[1])
        values *= spread_groups(self.tensors.float_rows(f"{self.name}.weight_scale", start, count), self.shape[1])
        return values

    def _zero_points(self) -> NDArray[np.int8] | None:
        """Signed, shape [out, G]; small beside the weights, so read whole."""
        if self.stated.symmetric:
            return None
        packed = self.tensors.integers(f"{self.name}.weight_zero_point")
        return unpack_rows(packed.T, int(self.stated.bits), self.shape[0]).T


@dataclass(frozen=True)
class ByteIntegers:
    """A module of format int-quantized: weights of up to 8 bits, one in each byte."""

    name: str
    shape: Shape
    stated: StatedWeights
    has_input_scale: bool
    tensors: TensorReader

    def parts(self) -> Mapping[str, Part]:
        groups = num_groups(self.shape[1], self.stated.group_size)
        per_group = ((self.shape[0], groups), (self.shape[0],)) if groups == 1 else ((self.shape[0], groups),)
        parts = {"weight": Part(frozenset({"I8"}), (self.shape,)), "weight_scale": Part(SCALE_DTYPES, per_group)}
        if not self.stated.symmetric:
            parts["weight_zero_point"] = Part(frozenset({"I8"}), per_group)
        if self.has_input_scale:
            parts["input_scale"] = Part(SCALE_DTYPES, ((1,), ()))
        return {f"{self.name}.{part}": expected for part, expected in parts.items()}

    def levels(self) -> Levels:
        names = [f"{self.name}.{part}" for part in ("weight_scale", *(["input_scale"] if self.has_input_scale else []))]
        half = 1 << (int(self.stated.bits) - 1)
        zero_points = None if self.stated.symmetric else self.tensors.integers(f"{self.name}.weight_zero_point") + half
        return Levels({name: self.tensors.floats(name) for name in names}, zero_points=zero_points, num_levels=2 * half)

    def blocks(self, block_weights: int) -> Iterator[Float32]:
        return (self._rows(start, count) for start, count in row_spans(self.shape, block_weights))

    def _rows(self, start: int, count: int) -> Float32:
        values = self.tensors.integer_rows(f"{self.name}.weight", start, count).astype(np.float32)
        if not self.stated.symmetric:
            zero_points = self.tensors.integer_rows(f"{self.name}.weight_zero_point", start, count).reshape(count, -1)
            values -= spread_groups(zero_points.astype(np.float32), self.shape[1])
        scales = self.tensors.float_rows(f"{self.name}.weight_scale", start, count).reshape(count, -1)
        return values * spread_groups(scales, self.shape[1])


def _elements_of_bytes(bits: int) -> NDArray[np.uint8]:
    """Returns the elements of each byte, shape [256, 8 / bits], the lowest bits first."""
    shifts = np.arange(0, BYTE_BITS, bits, dtype=np.uint8)
    every_byte = np.arange(256, dtype=np.uint8)
    return (every_byte[:, None] >> shifts) & np.uint8((1 << bits) - 1)
