"""Blocks of numbers as GGUF files store them, dequantized: Q8_0, Q4_K, Q5_K, Q6_K.

Written from the description of the blocks in ggml (ggml-common.h: block_q8_0, block_q4_K ...; ggml-quants.c says in which
order their bits stand). A block of a K-quant has 256 weights in sub-blocks of 32, or 16 for Q6_K, each with a scale of its own
in units of the block's. B is a number of blocks; all numbers are little-endian.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from quantry_worker.child.formats.stored import Float32

Bytes = NDArray[np.uint8]
"""Blocks as bytes, shape [B, bytes of one]."""

K_ELEMENTS = 256
SUB_BLOCK = 32


class BlockType(NamedTuple):
    """One way to store a run of weights."""

    elements: int
    num_bytes: int
    dequantize: Callable[[Bytes], Float32]
    """Returns the weights, shape [B, elements]."""
    scale_at: tuple[int, ...]
    """Where the block's float16 scales begin."""


def _half(blocks: Bytes, at: int) -> Float32:
    """Returns the float16 at a byte of each block, shape [B, 1]."""
    return np.ascontiguousarray(blocks[:, at : at + 2]).view("<f2").astype(np.float32)


def _nibbles(packed: Bytes) -> Bytes:
    """Returns the low halves of all bytes, then the high halves, along the last axis."""
    halves: Bytes = np.concatenate([packed & 0xF, packed >> 4], axis=-1)
    return halves


def _bit(packed: Bytes, index: int) -> Bytes:
    return np.right_shift(packed, index).astype(np.uint8) & np.uint8(1)


def _q8_0(blocks: Bytes) -> Float32:
    return _half(blocks, 0) * np.ascontiguousarray(blocks[:, 2:]).view(np.int8).astype(np.float32)


def _six_bit_pairs(packed: Bytes) -> tuple[Float32, Float32]:
    """Returns 8 scales and 8 minima, each [B, 8], of 12 bytes [B, 12].

    The first four of each have their six bits in bytes 0-3 and 4-7. The upper two bits of those bytes belong to the last four,
    whose lower four bits share bytes 8-11: scales in the low half, minima in the high half.
    """
    first, second, last = packed[:, 0:4], packed[:, 4:8], packed[:, 8:12]
    scales = np.concatenate([first & 0x3F, (last & 0xF) + ((first >> 6) << 4)], axis=1)
    minima = np.concatenate([second & 0x3F, (last >> 4) + ((second >> 6) << 4)], axis=1)
    return scales.astype(np.float32), minima.astype(np.float32)


def _with_minima(blocks: Bytes, levels: Float32) -> Float32:
    """Returns d * scale * level - dmin * minimum by sub-block; levels are [B, 8, 32]."""
    scales, minima = _six_bit_pairs(blocks[:, 4:16])
    step, offset = _half(blocks, 0) * scales, _half(blocks, 2) * minima
    return (step[:, :, None] * levels - offset[:, :, None]).reshape(len(blocks), K_ELEMENTS)


def _sub_block_nibbles(packed: Bytes) -> Bytes:
    """Returns [B, 8, 32] of [B, 128]: each run of 32 bytes holds two sub-blocks, one in the low halves and one in the high."""
    return _nibbles(packed.reshape(len(packed), 4, SUB_BLOCK)).reshape(len(packed), 8, SUB_BLOCK)


def _q4_k(blocks: Bytes) -> Float32:
    return _with_minima(blocks, _sub_block_nibbles(blocks[:, 16:]).astype(np.float32))


def _q5_k(blocks: Bytes) -> Float32:
    # Bit i of the 32 bytes of high bits is the fifth bit of sub-block i.
    fifth = np.stack([_bit(blocks[:, 16:48], index) for index in range(8)], axis=1)
    return _with_minima(blocks, (_sub_block_nibbles(blocks[:, 48:]) + 16 * fifth).astype(np.float32))


def _q6_k(blocks: Bytes) -> Float32:
    num_blocks = len(blocks)
    # Two halves of 128 weights. In each, 64 bytes of low halves give weights 0-63, then 64-127; 32 bytes give four runs of
    # 32 weights two high bits each.
    low = _nibbles(blocks[:, :128].reshape(num_blocks, 2, 64)).reshape(num_blocks, 2, 4, SUB_BLOCK)
    packed_high = blocks[:, 128:192].reshape(num_blocks, 2, SUB_BLOCK)
    high = np.stack([(packed_high >> shift) & 3 for shift in (0, 2, 4, 6)], axis=2)
    levels = (low + 16 * high).astype(np.float32) - 32
    scales = np.ascontiguousarray(blocks[:, 192:208]).view(np.int8).astype(np.float32) * _half(blocks, 208)
    weights: Float32 = (levels.reshape(num_blocks, 16, 16) * scales[:, :, None]).reshape(num_blocks, K_ELEMENTS)
    return weights


BLOCK_TYPES: dict[str, BlockType] = {
    "Q8_0": BlockType(32, 34, _q8_0, (0,)),
    "Q4_K": BlockType(K_ELEMENTS, 144, _q4_k, (0, 2)),
    "Q5_K": BlockType(K_ELEMENTS, 176, _q5_k, (0, 2)),
    "Q6_K": BlockType(K_ELEMENTS, 210, _q6_k, (208,)),
}
"""By the names that GGUF gives them."""
