"""The safetensors header, parsed and checked without loading a tensor.

Layout: 8 bytes little-endian length N, N bytes of JSON, then the data. https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
from math import prod

from pydantic import BaseModel, ConfigDict

MAX_HEADER_BYTES = 100_000_000
LENGTH_BYTES = 8
MAX_DIMENSIONS = 16
NUMBER_LIMIT = 2**63
"""Dimensions and offsets are below this. With MAX_DIMENSIONS it bounds the work on one shape."""

MAX_NUMBER_CHARS = 20
MAX_QUOTED_CHARS = 200

DTYPE_BITS: dict[str, int] = {
    "BOOL": 8,
    "U8": 8,
    "I8": 8,
    "F8_E4M3": 8,
    "F8_E5M2": 8,
    "F8_E8M0": 8,
    "I16": 16,
    "U16": 16,
    "F16": 16,
    "BF16": 16,
    "I32": 32,
    "U32": 32,
    "F32": 32,
    "I64": 64,
    "U64": 64,
    "F64": 64,
}
"""Bits of one element by dtype name."""


class SafetensorsError(ValueError):
    """The file is not a well-formed safetensors file; the message says what is wrong."""


class TensorInfo(BaseModel):
    """One tensor as the header declares it."""

    model_config = ConfigDict(frozen=True)

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def num_elements(self) -> int:
        return prod(self.shape)

    @property
    def size_bytes(self) -> int:
        return self.end - self.begin


def header_length(first_bytes: bytes, file_size_bytes: int) -> int:
    """Returns N from the first 8 bytes; raises SafetensorsError if it cannot be true of a file of this size."""
    if len(first_bytes) < LENGTH_BYTES:
        raise SafetensorsError(f"the file has {file_size_bytes} bytes, a safetensors file has at least {LENGTH_BYTES}")
    length = int.from_bytes(first_bytes[:LENGTH_BYTES], "little")
    if length > MAX_HEADER_BYTES:
        raise SafetensorsError(f"the header claims {length} bytes, more than the {MAX_HEADER_BYTES} allowed")
    if LENGTH_BYTES + length > file_size_bytes:
        raise SafetensorsError(f"the header claims {length} bytes but the file has {file_size_bytes}: it is cut short")
    return length


def parse_header(header: bytes, file_size_bytes: int) -> dict[str, TensorInfo]:
    """Returns the tensors of a header (the JSON alone) by name.

    Raises SafetensorsError where the JSON is malformed, a dtype is unknown, a number or a rank is absurd, a tensor's bytes
    are not what its shape needs, tensors overlap or leave holes, or the data is not as long as the file says.

    The time is linear in the header's length but for one sort, whatever the header says.
    """
    try:
        document = json.loads(header.decode("utf-8"), object_pairs_hook=_unique_keys, parse_int=_parse_int)
    except SafetensorsError:
        raise
    except (ValueError, RecursionError) as error:
        raise SafetensorsError(f"the header is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise SafetensorsError("the header is not a JSON object")
    document.pop("__metadata__", None)
    tensors = {name: _parse_tensor(name, entry) for name, entry in document.items()}
    position = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != position:
            raise SafetensorsError(f"tensor {_quoted(name)} begins at byte {tensor.begin}, expected {position}: overlap or hole")
        position = tensor.end
    data_bytes = file_size_bytes - LENGTH_BYTES - len(header)
    if position != data_bytes:
        raise SafetensorsError(f"the header describes {position} bytes of data but the file holds {data_bytes}")
    return tensors


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise SafetensorsError("the header names a tensor twice")
    return result


def _parse_int(digits: str) -> int:
    """Python's own takes quadratic time, and past 4300 digits it raises a bare ValueError."""
    if len(digits) > MAX_NUMBER_CHARS:
        raise SafetensorsError(f"the header has a number of {len(digits)} characters, more than the {MAX_NUMBER_CHARS} a size can need")
    return int(digits)


def _parse_tensor(name: str, entry: object) -> TensorInfo:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise SafetensorsError(f"tensor {_quoted(name)} is not described by dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPE_BITS:
        raise SafetensorsError(f"tensor {_quoted(name)} has the unknown dtype {_quoted(dtype)}")
    if not isinstance(shape, list) or not isinstance(offsets, list) or len(offsets) != 2:
        raise SafetensorsError(f"tensor {_quoted(name)} has no list as its shape, or no two offsets")
    if len(shape) > MAX_DIMENSIONS:
        raise SafetensorsError(f"tensor {_quoted(name)} has {len(shape)} dimensions, more than the {MAX_DIMENSIONS} allowed")
    if not all(map(_is_natural, shape)) or not all(map(_is_natural, offsets)):
        raise SafetensorsError(f"tensor {_quoted(name)} has a shape or offsets that are not natural numbers below 2**63")
    needed = prod(shape) * DTYPE_BITS[dtype] // 8
    if offsets[1] - offsets[0] != needed:
        raise SafetensorsError(f"tensor {_quoted(name)} needs {needed} bytes for shape {shape}, its offsets give {offsets[1] - offsets[0]}")
    return TensorInfo(dtype=dtype, shape=tuple(shape), begin=offsets[0], end=offsets[1])


def _is_natural(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < NUMBER_LIMIT


def _quoted(value: object) -> str:
    """Returns what a header holds in a form that fits into a sentence; it may be megabytes long, or nested deeply."""
    return repr(value[:MAX_QUOTED_CHARS]) if isinstance(value, str) else f"of type {type(value).__name__}"
