"""The header of a GGUF file, parsed and checked without loading a tensor.

Layout, all numbers little-endian: magic, version, number of tensors and of key-values; the key-values; for each tensor
its name, dimensions, type and offset; padding; the data. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
Sizes of the types: https://github.com/ggml-org/llama.cpp/blob/master/gguf-py/gguf/constants.py
"""

from __future__ import annotations

import struct
from math import prod
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from quantry_core.checkpoints import CheckpointReader

MAGIC = b"GGUF"
VERSIONS = (2, 3)
"""Version 1 counted in 32 bits and is long gone."""

DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 2**20
MAX_DIMENSIONS = 4
MAX_NAME_BYTES = 64
"""Of a tensor."""
MAX_KEY_BYTES = 65535
MAX_STRING_BYTES = 2**24
MAX_TENSORS = 100_000
MAX_KEY_VALUES = 10_000
MAX_ARRAY_ELEMENTS = 8_000_000
MAX_HEADER_BYTES = 256 * 1024**2
MAX_ARRAY_DEPTH = 3
READ_BYTES = 1024**2


class GgufError(ValueError):
    """The file is not a well-formed GGUF file; the message says what is wrong."""


class TensorType(NamedTuple):
    """One way to store numbers: blocks of a fixed number of elements and bytes."""

    name: str
    block_elements: int
    block_bytes: int

    @property
    def bits(self) -> float:
        """Of one element, its share of scales counted."""
        return self.block_bytes * 8 / self.block_elements


TENSOR_TYPES: dict[int, TensorType] = {
    0: TensorType("F32", 1, 4),
    1: TensorType("F16", 1, 2),
    2: TensorType("Q4_0", 32, 18),
    3: TensorType("Q4_1", 32, 20),
    6: TensorType("Q5_0", 32, 22),
    7: TensorType("Q5_1", 32, 24),
    8: TensorType("Q8_0", 32, 34),
    9: TensorType("Q8_1", 32, 40),
    10: TensorType("Q2_K", 256, 84),
    11: TensorType("Q3_K", 256, 110),
    12: TensorType("Q4_K", 256, 144),
    13: TensorType("Q5_K", 256, 176),
    14: TensorType("Q6_K", 256, 210),
    15: TensorType("Q8_K", 256, 292),
    24: TensorType("I8", 1, 1),
    25: TensorType("I16", 1, 2),
    26: TensorType("I32", 1, 4),
    27: TensorType("I64", 1, 8),
    28: TensorType("F64", 1, 8),
    30: TensorType("BF16", 1, 2),
}
"""By the number a file gives. The importance-matrix (IQ) and ternary types are left out: nothing here writes them."""

_NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
"""struct formats of the key-value types that have a fixed size."""
_STRING, _ARRAY = 8, 9


class GgufArray(BaseModel):
    """An array among the key-values: counted, its elements not kept."""

    model_config = ConfigDict(frozen=True)

    num_elements: int


GgufValue = bool | int | float | str | GgufArray


class GgufTensor(BaseModel):
    """One tensor as the header declares it."""

    model_config = ConfigDict(frozen=True)

    type_name: str
    shape: tuple[int, ...]
    """As numpy and safetensors have it: the innermost dimension last. The file lists it first."""
    begin: int
    """Where its data begins, in bytes from the start of the file."""
    end: int

    @property
    def num_elements(self) -> int:
        return prod(self.shape)


class GgufInfo(BaseModel):
    """What a GGUF header says."""

    model_config = ConfigDict(frozen=True)

    version: int
    key_values: dict[str, GgufValue]
    tensors: dict[str, GgufTensor]

    def num_by_type(self) -> dict[str, int]:
        """Returns how many tensors there are of each type."""
        names = [tensor.type_name for tensor in self.tensors.values()]
        return {name: names.count(name) for name in sorted(set(names))}


def read_gguf(reader: CheckpointReader, path: str) -> GgufInfo:
    """Returns what the header of a GGUF file says; raises GgufError if it is malformed or does not describe its file.

    Work and memory are bounded whatever the file claims. Refused too: tensors that overlap, lie beyond the end of the
    file or off the alignment, and bytes after the last tensor beyond its padding.
    """
    size_bytes = reader.files()[path]
    cursor = _Cursor(reader, path, size_bytes)
    if cursor.take(len(MAGIC)) != MAGIC:
        raise GgufError("this is no GGUF file: it does not begin with GGUF")
    version = cursor.number("<I")
    if version not in VERSIONS:
        raise GgufError(f"GGUF version {version} is not known; known: {', '.join(map(str, VERSIONS))}, little-endian")
    num_tensors = cursor.count("<Q", MAX_TENSORS, "tensors")
    num_key_values = cursor.count("<Q", MAX_KEY_VALUES, "key-values")
    key_values = _key_values(cursor, num_key_values)
    declared = _declared_tensors(cursor, num_tensors)
    alignment = _alignment(key_values)
    data_begin = _padded(cursor.position, alignment)
    return GgufInfo(version=version, key_values=key_values, tensors=_placed(declared, data_begin, alignment, size_bytes))


class _Declared(NamedTuple):
    type: TensorType
    shape: tuple[int, ...]
    offset: int


class _Cursor:
    """Reads a file's header from front to back, a buffer at a time."""

    def __init__(self, reader: CheckpointReader, path: str, size_bytes: int) -> None:
        self._reader, self._path, self._size_bytes = reader, path, size_bytes
        self._buffer, self._buffer_begin = b"", 0
        self.position = 0

    def take(self, num_bytes: int) -> bytes:
        """Returns the next bytes; raises GgufError at the end of the file or of what a header may be."""
        end = self.position + num_bytes
        if end > self._size_bytes:
            raise GgufError(f"the header goes on after the file's {self._size_bytes} bytes: it is cut short")
        if end > MAX_HEADER_BYTES:
            raise GgufError(f"the header is longer than the {MAX_HEADER_BYTES} bytes allowed")
        if end > self._buffer_begin + len(self._buffer):
            self._buffer = self._reader.read(self._path, self.position, max(num_bytes, READ_BYTES))
            self._buffer_begin = self.position
            if len(self._buffer) < num_bytes:
                raise GgufError("the file is shorter than it is listed")
        start = self.position - self._buffer_begin
        self.position = end
        return self._buffer[start : start + num_bytes]

    def number(self, form: str) -> int:
        """Returns the next number, of a struct format for whole ones."""
        return int(struct.unpack(form, self.take(struct.calcsize(form)))[0])

    def count(self, form: str, limit: int, what: str) -> int:
        """Returns the next number; raises GgufError if it is more than ``limit``."""
        number = self.number(form)
        if number > limit:
            raise GgufError(f"the header claims {number} {what}, more than the {limit} allowed")
        return number

    def string(self, limit: int, what: str) -> str:
        """Returns the next string; raises GgufError if it is longer than ``limit`` bytes or not UTF-8."""
        try:
            return self.take(self.count("<Q", limit, f"bytes of a {what}")).decode("utf-8")
        except UnicodeDecodeError as error:
            raise GgufError(f"a {what} is not UTF-8: {error.reason}") from error


def _key_values(cursor: _Cursor, num_key_values: int) -> dict[str, GgufValue]:
    key_values: dict[str, GgufValue] = {}
    for _ in range(num_key_values):
        key = cursor.string(MAX_KEY_BYTES, "key")
        if key in key_values:
            raise GgufError(f"key {key!r} is there twice")
        key_values[key] = _value(cursor, cursor.number("<I"))
    return key_values


def _value(cursor: _Cursor, kind: int) -> GgufValue:
    if kind == _STRING:
        return cursor.string(MAX_STRING_BYTES, "string")
    if kind == _ARRAY:
        return GgufArray(num_elements=_pass_array(cursor, MAX_ARRAY_DEPTH))
    if kind not in _NUMBERS:
        raise GgufError(f"value type {kind} is not known")
    value: bool | int | float = struct.unpack(_NUMBERS[kind], cursor.take(struct.calcsize(_NUMBERS[kind])))[0]
    return value


def _pass_array(cursor: _Cursor, depth: int) -> int:
    """Moves past an array and returns how many elements it has."""
    if depth == 0:
        raise GgufError(f"arrays lie more than {MAX_ARRAY_DEPTH} deep in one another")
    kind = cursor.number("<I")
    num_elements = cursor.count("<Q", MAX_ARRAY_ELEMENTS, "elements of an array")
    if kind in _NUMBERS:
        cursor.take(num_elements * struct.calcsize(_NUMBERS[kind]))
        return num_elements
    if kind not in (_STRING, _ARRAY):
        raise GgufError(f"value type {kind} is not known")
    for _ in range(num_elements):
        if kind == _STRING:
            cursor.take(cursor.count("<Q", MAX_STRING_BYTES, "bytes of a string"))
        else:
            _pass_array(cursor, depth - 1)
    return num_elements


def _declared_tensors(cursor: _Cursor, num_tensors: int) -> dict[str, _Declared]:
    tensors: dict[str, _Declared] = {}
    for _ in range(num_tensors):
        name = cursor.string(MAX_NAME_BYTES, "tensor's name")
        if name in tensors:
            raise GgufError(f"tensor {name!r} is there twice")
        num_dimensions = cursor.count("<I", MAX_DIMENSIONS, f"dimensions of tensor {name!r}")
        shape = tuple(reversed([cursor.number("<Q") for _ in range(num_dimensions)]))
        kind = cursor.number("<I")
        if kind not in TENSOR_TYPES:
            raise GgufError(f"tensor {name!r} is of type {kind}, which is not known here")
        tensors[name] = _Declared(TENSOR_TYPES[kind], shape, cursor.number("<Q"))
    return tensors


def _alignment(key_values: dict[str, GgufValue]) -> int:
    alignment = key_values.get("general.alignment", DEFAULT_ALIGNMENT)
    if type(alignment) is not int or not 8 <= alignment <= MAX_ALIGNMENT or alignment % 8:
        raise GgufError(f"general.alignment is {alignment!r}; it is a multiple of 8 up to {MAX_ALIGNMENT}")
    return alignment


def _placed(declared: dict[str, _Declared], data_begin: int, alignment: int, size_bytes: int) -> dict[str, GgufTensor]:
    tensors: dict[str, GgufTensor] = {}
    free_from = data_begin
    for name, tensor in sorted(declared.items(), key=lambda item: item[1].offset):
        begin = data_begin + tensor.offset
        end = begin + _size_bytes(name, tensor)
        if tensor.offset % alignment:
            raise GgufError(f"tensor {name!r} begins off the alignment of {alignment} bytes")
        if begin < free_from:
            raise GgufError(f"tensor {name!r} overlaps the one before it")
        if end > size_bytes:
            raise GgufError(f"tensor {name!r} ends at byte {end}, the file has {size_bytes}: it is cut short")
        tensors[name] = GgufTensor(type_name=tensor.type.name, shape=tensor.shape, begin=begin, end=end)
        free_from = end
    if tensors and size_bytes > _padded(free_from, alignment):
        raise GgufError(f"the file goes on for {size_bytes - free_from} bytes after its last tensor")
    # In the order of the header.
    return {name: tensors[name] for name in declared}


def _size_bytes(name: str, tensor: _Declared) -> int:
    row_elements = tensor.shape[-1] if tensor.shape else 1
    if row_elements % tensor.type.block_elements:
        raise GgufError(f"tensor {name!r}: rows of {row_elements} are no whole blocks of {tensor.type.name}")
    return prod(tensor.shape) // tensor.type.block_elements * tensor.type.block_bytes


def _padded(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment
