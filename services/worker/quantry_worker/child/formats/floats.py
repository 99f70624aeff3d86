"""8-bit and 4-bit floating point weights as compressed-tensors stores them.

float-quantized: ``weight``, E4M3 [out, in]; ``weight_scale`` [out, 1] for one scale a channel, [1] for one a tensor; a weight
is number * scale (Micikevicius et al. 2022, arXiv:2209.05433). With static activations there is ``input_scale`` [1].
nvfp4-pack-quantized: ``weight_packed``, two E2M1 numbers a byte, the first in the low half, [out, in / 2]; ``weight_scale``,
E4M3 [out, in / 16]; ``weight_global_scale`` [1]; a weight is number * scale / global scale (NVIDIA 2025, arXiv:2509.25149).
mxfp4-pack-quantized: the same numbers; ``weight_scale``, E8M0 as bytes [out, in / 32]: 2 ** (byte - 127) (OCP MX v1.0).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantry_core.layouts import num_groups
from quantry_core.linears import Shape
from quantry_core.methods import Granularity
from quantry_worker.child.formats.integers import SCALE_DTYPES
from quantry_worker.child.formats.stored import Float32, Levels, Part, StatedWeights, row_spans, spread_groups
from quantry_worker.child.numerics.tensors import TensorReader

E2M1: Float32 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], dtype=np.float32)
"""The sixteen numbers by their bits: sign, two of exponent, one of mantissa."""
E8M0_BIAS = 127
E8M0_NAN = 255


@dataclass(frozen=True)
class Fp8:
    """A module of format float-quantized."""

    name: str
    shape: Shape
    stated: StatedWeights
    has_input_scale: bool
    tensors: TensorReader

    def parts(self) -> Mapping[str, Part]:
        out_features, in_features = self.shape
        if self.stated.granularity is Granularity.TENSOR:
            scales: tuple[tuple[int, ...], ...] = ((1,), ())
        else:
            scales = ((out_features, num_groups(in_features, self.stated.group_size)),)
        parts = {"weight": Part(frozenset({"F8_E4M3"}), (self.shape,)), "weight_scale": Part(SCALE_DTYPES, scales)}
        if self.has_input_scale:
            parts["input_scale"] = Part(SCALE_DTYPES, ((1,), ()))
        return {f"{self.name}.{part}": expected for part, expected in parts.items()}

    def levels(self) -> Levels:
        return _scales_among(self.parts(), self.tensors)

    def blocks(self, block_weights: int) -> Iterator[Float32]:
        return (self._rows(start, count) for start, count in row_spans(self.shape, block_weights))

    def _rows(self, start: int, count: int) -> Float32:
        numbers = self.tensors.float_rows(f"{self.name}.weight", start, count)
        if self.stated.granularity is Granularity.TENSOR:
            return numbers * self.tensors.floats(f"{self.name}.weight_scale").reshape(1, 1)
        return numbers * spread_groups(self.tensors.float_rows(f"{self.name}.weight_scale", start, count), self.shape[1])


@dataclass(frozen=True)
class NvFp4:
    """A module of format nvfp4-pack-quantized."""

    name: str
    shape: Shape
    stated: StatedWeights
    has_input_scale: bool
    tensors: TensorReader

    def parts(self) -> Mapping[str, Part]:
        out_features, in_features = self.shape
        parts = {
            "weight_packed": Part(frozenset({"U8"}), ((out_features, in_features // 2),)),
            "weight_scale": Part(frozenset({"F8_E4M3"}), ((out_features, num_groups(in_features, self.stated.group_size)),)),
            "weight_global_scale": Part(SCALE_DTYPES, ((1,), ())),
        }
        if self.has_input_scale:
            parts["input_global_scale"] = Part(SCALE_DTYPES, ((1,), ()))
        return {f"{self.name}.{part}": expected for part, expected in parts.items()}

    def levels(self) -> Levels:
        return _scales_among(self.parts(), self.tensors)

    def blocks(self, block_weights: int) -> Iterator[Float32]:
        return (self._rows(start, count) for start, count in row_spans(self.shape, block_weights))

    def _rows(self, start: int, count: int) -> Float32:
        scales = self.tensors.float_rows(f"{self.name}.weight_scale", start, count)
        scales = scales / self.tensors.floats(f"{self.name}.weight_global_scale").reshape(1, 1)
        return _numbers(self.tensors.integer_rows(f"{self.name}.weight_packed", start, count)) * spread_groups(scales, self.shape[1])


@dataclass(frozen=True)
class MxFp4:
    """A module of format mxfp4-pack-quantized."""

    name: str
    shape: Shape
    stated: StatedWeights
    tensors: TensorReader

    def parts(self) -> Mapping[str, Part]:
        out_features, in_features = self.shape
        return {
            f"{self.name}.weight_packed": Part(frozenset({"U8"}), ((out_features, in_features // 2),)),
            f"{self.name}.weight_scale": Part(
                frozenset({"U8", "F8_E8M0"}), ((out_features, num_groups(in_features, self.stated.group_size)),)
            ),
        }

    def levels(self) -> Levels:
        name = f"{self.name}.weight_scale"
        # A power of two may well be 2 ** 0.
        return Levels({name: self._scales(0, self.shape[0])}, may_be_one=frozenset({name}))

    def blocks(self, block_weights: int) -> Iterator[Float32]:
        return (self._rows(start, count) for start, count in row_spans(self.shape, block_weights))

    def _rows(self, start: int, count: int) -> Float32:
        numbers = _numbers(self.tensors.integer_rows(f"{self.name}.weight_packed", start, count))
        return numbers * spread_groups(self._scales(start, count), self.shape[1])

    def _scales(self, start: int, count: int) -> Float32:
        exponents = self.tensors.byte_rows(f"{self.name}.weight_scale", start, count)
        known = np.where(exponents == E8M0_NAN, np.float32(np.nan), exponents.astype(np.float32))
        scales: Float32 = np.exp2(known - np.float32(E8M0_BIAS))
        return scales


def _numbers(packed: NDArray[np.int64]) -> Float32:
    """Returns E2M1 numbers [rows, in] of bytes [rows, in / 2]."""
    both = np.stack([packed & 0xF, packed >> 4], axis=-1)
    return E2M1[both].reshape(len(packed), -1)


def _scales_among(parts: Mapping[str, Part], tensors: TensorReader) -> Levels:
    return Levels({name: tensors.floats(name) for name in parts if name.endswith("_scale")})
