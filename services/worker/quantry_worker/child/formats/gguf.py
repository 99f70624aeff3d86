"""GGUF files of causal language models: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md

llama.cpp has its own names for tensors, stores vectors as float32, and, for Llama's family, the rows of queries and keys in
another order: its rotary embedding pairs neighbours where transformers pairs the halves of a head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from quantry_core.checkpoints import CheckpointInfo, CheckpointReader, read_json
from quantry_core.errors import SourceRefused
from quantry_core.families import is_tied
from quantry_core.gguf import GgufError, GgufInfo, GgufTensor, read_gguf
from quantry_core.linears import Shape
from quantry_core.methods import Granularity, NumberType
from quantry_core.safetensors import TensorInfo
from quantry_worker.child.formats.k_quants import BLOCK_TYPES
from quantry_worker.child.formats.stored import Float32, Levels, Part, StatedWeights, StoredCheckpoint, row_spans
from quantry_worker.child.numerics.tensors import TensorReader

SUFFIX = ".gguf"
ARCHITECTURE = "general.architecture"
ROTARY_BY_NEIGHBOURS = frozenset({"llama"})
"""Architectures whose queries and keys were reordered; Mistral's is called llama too."""
COMPUTED = frozenset({"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"})
"""Follow from config.json."""
MAX_SHARE_OF_ZEROS = 0.5
"""Of a module's blocks: rows that training switched off are zeros, half a matrix is not."""


@dataclass(frozen=True)
class GgufModule:
    """A matrix of blocks, read in the order of the master's rows."""

    name: str
    shape: Shape
    block_type: str
    num_heads: int | None
    """Heads whose rows were reordered; None where they were not."""
    stated: StatedWeights
    tensors: TensorReader

    def parts(self) -> Mapping[str, Part]:
        return {f"{self.name}.weight": Part(frozenset({self.block_type}), (self.shape,))}

    def levels(self) -> Levels:
        kind = BLOCK_TYPES[self.block_type]
        raw = self.tensors.byte_rows(f"{self.name}.weight", 0, self.shape[0]).reshape(-1, kind.num_bytes)
        scales = np.stack([np.ascontiguousarray(raw[:, at : at + 2]).view("<f2")[:, 0] for at in kind.scale_at]).astype(np.float32)
        if not np.isfinite(scales).all():
            return Levels({}, problems=[f"{self.name}: a scale is infinite or not a number"])
        # Signs mean nothing here, and a block of zeros has a scale of 0.
        share = float((scales[0] == 0).mean())
        problems = [f"{self.name}: {share:.0%} of its blocks have a scale of 0"] if share > MAX_SHARE_OF_ZEROS else []
        return Levels({}, problems=problems)

    def blocks(self, block_weights: int) -> Iterator[Float32]:
        rows, columns = self.shape
        # Whole heads at a time: within one the rows lie in another order.
        unit = rows // self.num_heads if self.num_heads else 1
        for start, count in row_spans((rows // unit, unit * columns), block_weights):
            values = self._stored_rows(start * unit, count * unit)
            if self.num_heads:
                values = values.reshape(count, unit // 2, 2, columns).swapaxes(1, 2).reshape(count * unit, columns)
            yield values

    def _stored_rows(self, start: int, count: int) -> Float32:
        kind = BLOCK_TYPES[self.block_type]
        raw = self.tensors.byte_rows(f"{self.name}.weight", start, count).reshape(-1, kind.num_bytes)
        return kind.dequantize(raw).reshape(count, self.shape[1])


def open_gguf(files: CheckpointReader, master: CheckpointInfo, linears: Mapping[str, Shape]) -> StoredCheckpoint:
    """Returns the checkpoint; raises SourceRefused if the folder does not hold exactly one well-formed GGUF file and a config.json."""
    names = [name for name in files.files() if name.endswith(SUFFIX)]
    if len(names) != 1:
        raise SourceRefused(f"there are {len(names)} {SUFFIX} files, expected is one: what was written is no GGUF checkpoint")
    stray = [name for name in files.files() if name.endswith(".safetensors")]
    problems = [f"{name} does not belong beside a GGUF file" for name in stray]
    try:
        header = read_gguf(files, names[0])
    except GgufError as error:
        raise SourceRefused(f"{names[0]}: {error}") from error
    renamed = _names(header, master)
    tensors = {renamed.get(name, name): tensor for name, tensor in header.tensors.items() if name not in COMPUTED}
    info = CheckpointInfo(
        config=read_json(files, files.files(), "config.json"),
        files=dict(files.files()),
        tensors={name: TensorInfo(dtype=one.type_name, shape=one.shape, begin=one.begin, end=one.end) for name, one in tensors.items()},
        tensor_files=dict.fromkeys(tensors, names[0]),
    )
    reader = TensorReader(files, info, data_starts={names[0]: 0})
    matrices = {name.removesuffix(".weight"): one for name, one in tensors.items() if one.type_name in BLOCK_TYPES}
    modules = {name: _module(name, one, linears, header, reader) for name, one in sorted(matrices.items())}
    return StoredCheckpoint(info, reader, modules, problems, is_converted=True)


def _module(name: str, tensor: GgufTensor, linears: Mapping[str, Shape], header: GgufInfo, reader: TensorReader) -> GgufModule:
    kind = BLOCK_TYPES[tensor.type_name]
    bits = kind.num_bytes * 8 / kind.elements
    stated = StatedWeights(bits, NumberType.K_QUANT, Granularity.GROUP, kind.elements, symmetric=True)
    # An embedding is no Linear; its shape is the file's own, and compared with the master's as it is read.
    shape = linears.get(name, (tensor.shape[0], tensor.shape[-1]))
    return GgufModule(name, shape, tensor.type_name, _reordered_heads(name, header), stated, reader)


def _reordered_heads(name: str, header: GgufInfo) -> int | None:
    architecture = header.key_values.get(ARCHITECTURE)
    last = name.rpartition(".")[2]
    if architecture not in ROTARY_BY_NEIGHBOURS or last not in {"q_proj", "k_proj"}:
        return None
    key = f"{architecture}.attention.head_count" + ("_kv" if last == "k_proj" else "")
    number = header.key_values.get(key, header.key_values.get(f"{architecture}.attention.head_count"))
    return number if isinstance(number, int) else None


def _names(header: GgufInfo, master: CheckpointInfo) -> dict[str, str]:
    """Returns the master's name of each tensor of the file, by llama.cpp's own table of names."""
    to_gguf = _name_table(str(header.key_values.get(ARCHITECTURE)), _num_layers(header))
    names: dict[str, str] = {}
    for name in master.tensors:
        found = to_gguf.get_name(name, try_suffixes=(".weight", ".bias"))
        # A master may store its tied output layer too; the file has it once, under the embedding's name.
        if found is not None and not (is_tied(master.config) and found in names):
            names[found] = name
    return names


@cache
def _name_table(architecture: str, num_layers: int) -> Any:
    # By name, when it is needed: the library is in the ml environment only.
    library = import_module("gguf")
    known = {name: number for number, name in library.MODEL_ARCH_NAMES.items()}
    if architecture not in known:
        raise SourceRefused(f"{ARCHITECTURE} is {architecture!r}, which llama.cpp does not know")
    return library.get_tensor_name_map(known[architecture], num_layers)


def _num_layers(header: GgufInfo) -> int:
    number = header.key_values.get(f"{header.key_values.get(ARCHITECTURE)}.block_count")
    if not isinstance(number, int):
        raise SourceRefused("the GGUF file does not say how many layers it has")
    return number
