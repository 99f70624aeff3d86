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
BYTE_BITS = 8


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


def dequantize_rows(values: NDArray[np.int8], scales: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns values times their group's scale: values [rows, in], scales [rows, num_groups], in / num_groups elements a group."""
    rows, num_groups = scales.shape
    grouped = values.reshape(rows, num_groups, -1).astype(np.float32)
    grouped *= scales[:, :, None]
    return grouped.reshape(values.shape)


def _elements_of_bytes(bits: int) -> NDArray[np.uint8]:
    """Returns the elements of each byte, shape [256, 8 / bits], the lowest bits first."""
    shifts = np.arange(0, BYTE_BITS, bits, dtype=np.uint8)
    every_byte = np.arange(256, dtype=np.uint8)
    return (every_byte[:, None] >> shifts) & np.uint8((1 << bits) - 1)
