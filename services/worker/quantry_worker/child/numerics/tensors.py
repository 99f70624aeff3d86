"""Tensors of a checkpoint as numpy arrays, read piece by piece through a CheckpointReader. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from quantry_core.checkpoints import CheckpointInfo, CheckpointReader
from quantry_core.safetensors import LENGTH_BYTES

PIECE_BYTES = 32 * 1024 * 1024

_INTEGERS: dict[str, str] = {"I32": "<i4", "I64": "<i8", "U8": "<u1", "I8": "<i1"}
_FLOATS: dict[str, str] = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
E4M3_BITS = "F8_E4M3"
_EXPONENTS: dict[str, tuple[str, int]] = {"F16": ("<u2", 0x7C00), "BF16": ("<u2", 0x7F80), "F32": ("<u4", 0x7F800000)}
"""Integer view and exponent mask: a number is infinite or NaN where all bits of the exponent are set (IEEE 754)."""


def _e4m3() -> NDArray[np.float32]:
    """Returns what each byte stands for: sign, 4 bits of exponent with bias 7, 3 of mantissa; 0x7F and 0xFF are no numbers."""
    byte = np.arange(256)
    exponent, mantissa = (byte >> 3) & 0xF, byte & 0x7
    magnitude = np.where(exponent > 0, (1 + mantissa / 8) * 2.0 ** (exponent - 7), mantissa / 8 * 2.0**-6)
    signed = np.where(byte < 0x80, magnitude, -magnitude)
    return np.where(byte & 0x7F == 0x7F, np.nan, signed).astype(np.float32)


E4M3 = _e4m3()
"""8-bit floats by their bits: Micikevicius et al. 2022, arXiv:2209.05433, table 1 (no infinities)."""


class TensorReader:
    """Reads tensors of one inspected checkpoint."""

    def __init__(self, reader: CheckpointReader, info: CheckpointInfo, data_starts: Mapping[str, int] | None = None) -> None:
        """``data_starts``: the byte that tensors' offsets count from, by file; read from the header of each where not given."""
        self._reader = reader
        self._info = info
        self._data_starts = dict(data_starts or {})

    def has(self, name: str) -> bool:
        return name in self._info.tensors

    def shape(self, name: str) -> tuple[int, ...]:
        """Returns a tensor's shape; raises KeyError if there is none of this name."""
        return self._info.tensors[name].shape

    def integers(self, name: str) -> NDArray[np.int64]:
        """Returns an integer tensor in its shape; raises KeyError for another dtype."""
        tensor = self._info.tensors[name]
        raw = self._bytes(name, 0, tensor.size_bytes)
        return np.frombuffer(raw, dtype=_INTEGERS[tensor.dtype]).reshape(tensor.shape).astype(np.int64)

    def floats(self, name: str) -> NDArray[np.float32]:
        """Returns a floating point tensor in its shape as float32; raises KeyError for another dtype."""
        shape = self._info.tensors[name].shape
        return self.float_rows(name, 0, shape[0] if shape else 1).reshape(shape)

    def float_rows(self, name: str, start: int, count: int) -> NDArray[np.float32]:
        """Returns ``count`` rows (of the first dimension) of a floating point tensor as float32."""
        dtype = self._info.tensors[name].dtype
        raw = self._rows(name, start, count)
        if dtype == E4M3_BITS:
            flat = E4M3[np.frombuffer(raw, dtype=np.uint8)]
        elif dtype == "BF16":
            # bfloat16 is the upper half of a float32.
            flat = (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
        else:
            flat = np.frombuffer(raw, dtype=_FLOATS[dtype]).astype(np.float32)
        return flat.reshape(count, *self._info.tensors[name].shape[1:])

    def integer_rows(self, name: str, start: int, count: int) -> NDArray[np.int64]:
        """Returns ``count`` rows (of the first dimension) of an integer tensor."""
        tensor = self._info.tensors[name]
        flat = np.frombuffer(self._rows(name, start, count), dtype=_INTEGERS[tensor.dtype]).astype(np.int64)
        return flat.reshape(count, *tensor.shape[1:])

    def byte_rows(self, name: str, start: int, count: int) -> NDArray[np.uint8]:
        """Returns ``count`` rows (of the first dimension) as bytes, shape [count, bytes of a row], whatever the dtype."""
        return np.frombuffer(self._rows(name, start, count), dtype=np.uint8).reshape(count, -1)

    def has_nonfinite(self, name: str) -> bool:
        """Tells whether a tensor holds an infinity or NaN. False for integers. The tensor is never in memory as a whole."""
        dtype = self._info.tensors[name].dtype
        if dtype == E4M3_BITS:
            return any(bool((np.frombuffer(piece, dtype=np.uint8) & 0x7F == 0x7F).any()) for piece in self._pieces(name))
        if dtype not in _EXPONENTS:
            return False
        view, mask = _EXPONENTS[dtype]
        return any(bool(((np.frombuffer(piece, dtype=view) & mask) == mask).any()) for piece in self._pieces(name))

    def is_same_as(self, name: str, other: TensorReader) -> bool:
        """Tells whether another checkpoint's tensor of this name holds the same bytes. Neither is ever in memory as a whole."""
        if self._info.tensors[name].size_bytes != other._info.tensors[name].size_bytes:
            return False
        return all(ours == theirs for ours, theirs in zip(self._pieces(name), other._pieces(name), strict=True))

    def _rows(self, name: str, start: int, count: int) -> bytes:
        tensor = self._info.tensors[name]
        row_bytes = tensor.size_bytes // tensor.shape[0] if tensor.shape else tensor.size_bytes
        return self._bytes(name, start * row_bytes, count * row_bytes)

    def _pieces(self, name: str) -> Iterator[bytes]:
        size = self._info.tensors[name].size_bytes
        for start in range(0, size, PIECE_BYTES):
            yield self._bytes(name, start, min(PIECE_BYTES, size - start))

    def _bytes(self, name: str, start: int, length: int) -> bytes:
        path = self._info.tensor_files[name]
        return self._reader.read(path, self._data_start(path) + self._info.tensors[name].begin + start, length)

    def _data_start(self, path: str) -> int:
        if path not in self._data_starts:
            header_bytes = int.from_bytes(self._reader.read(path, 0, LENGTH_BYTES), "little")
            self._data_starts[path] = LENGTH_BYTES + header_bytes
        return self._data_starts[path]


def nonfinite_tensors(reader: TensorReader, info: CheckpointInfo) -> list[str]:
    """Returns the names of the tensors that hold an infinity or NaN."""
    return [name for name in info.tensors if reader.has_nonfinite(name)]


def bits_of(info: CheckpointInfo, name: str) -> int:
    """Returns the bits a tensor takes on disk."""
    return info.tensors[name].size_bytes * 8
