"""Packed integer weights as compressed-tensors stores them (format pack-quantized), read with numpy alone.

A weight of shape [out, in] with ``bits`` per element is ``weight_packed``, int32 [out, ceil(in * bits / 32)]: element i of
a row lies at bits i * bits and up of the row's little-endian bit stream, with 2 ** (bits - 1) added. ``weight_scale`` is
[out, in / group_size], and ``weight_shape`` holds (out, in). Symmetric schemes have no zero point.
"""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

PACKED_PARTS = ("weight_packed", "weight_scale", "weight_shape")
WORD_BITS = 32


def packed_columns(in_features: int, bits: int) -> int:
    """Returns how many int32 one packed row takes."""
    return ceil(in_features * bits / WORD_BITS)


def unpack_rows(packed: NDArray[np.int64], bits: int, in_features: int) -> NDArray[np.int64]:
    """Returns the signed integers, shape [rows, in_features], of packed rows, shape [rows, words] with a word's 32 bits each."""
    words = packed.astype("<i4")
    stream = np.unpackbits(np.ascontiguousarray(words).view(np.uint8), axis=1, bitorder="little")
    elements = stream[:, : in_features * bits].reshape(len(packed), in_features, bits)
    values = elements.astype(np.int64) @ (1 << np.arange(bits, dtype=np.int64))
    return values - (1 << (bits - 1))


def dequantize_rows(values: NDArray[np.int64], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns values times their group's scale: values [rows, in], scales [rows, num_groups], in / num_groups elements a group."""
    group_size = values.shape[1] // scales.shape[1]
    return values.astype(np.float32) * np.repeat(scales, group_size, axis=1)
