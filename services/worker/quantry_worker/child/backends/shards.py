"""A checkpoint's files, written tensor by tensor with next to nothing in memory: the same shards as the master's.

Layout of a file: 8 bytes little-endian length N, N bytes of JSON, then the data. https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from quantry_core.checkpoints import INDEX_PATH, CheckpointInfo
from quantry_core.layouts import StoredPart, stored_parts
from quantry_core.safetensors import DTYPE_BITS, LENGTH_BYTES
from quantry_worker.child.numerics.tensors import PIECE_BYTES, TensorReader
from quantry_worker.child.plan import QuantizationPlan

HEADER_ALIGNMENT_BYTES = 8
METADATA = {"format": "pt"}

Layout = dict[str, StoredPart]
"""Tensors of one file by name."""


class Shard:
    """One safetensors file whose tensors are known before the first is computed; each is written to its place."""

    def __init__(self, path: Path, layout: Layout) -> None:
        # The widest numbers first, so that each lies at a multiple of its size.
        ordered = sorted(layout.items(), key=lambda item: (-DTYPE_BITS[item[1].dtype], item[0]))
        header: dict[str, Any] = {"__metadata__": METADATA}
        self._rests: dict[str, tuple[int, int]] = {}
        """Where the next byte of a tensor goes, and how many are missing."""
        begin = 0
        for name, part in ordered:
            size = prod(part.shape) * DTYPE_BITS[part.dtype] // 8
            header[name] = {"dtype": part.dtype, "shape": list(part.shape), "data_offsets": [begin, begin + size]}
            self._rests[name] = (begin, size)
            begin += size
        text = json.dumps(header, separators=(",", ":")).encode()
        text += b" " * (-len(text) % HEADER_ALIGNMENT_BYTES)
        self._data_start = LENGTH_BYTES + len(text)
        self._file = path.open("wb")
        self._file.write(len(text).to_bytes(LENGTH_BYTES, "little") + text)
        self._file.truncate(self._data_start + begin)

    def write(self, name: str, data: bytes) -> None:
        """Writes the next bytes of a tensor; raises ValueError past its end."""
        begin, missing = self._rests[name]
        if len(data) > missing:
            raise ValueError(f"tensor {name} has {missing} bytes to come, not {len(data)}")
        self._file.seek(self._data_start + begin)
        self._file.write(data)
        self._rests[name] = (begin + len(data), missing - len(data))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()
        cut_short = [name for name, (_, missing) in self._rests.items() if missing]
        if cut_short and error is None:
            raise ValueError(f"tensors were not written to their end: {', '.join(cut_short[:5])}")


def layouts(plan: QuantizationPlan, master: CheckpointInfo) -> dict[str, Layout]:
    """Returns what each of the master's weight files becomes: targets in their parts, everything else as it is."""
    files: dict[str, Layout] = {}
    for name in sorted(master.tensors, key=lambda name: (master.tensor_files[name], master.tensors[name].begin)):
        module, tensor = target_of(name, plan), master.tensors[name]
        layout = files.setdefault(master.tensor_files[name], {})
        if module is None:
            layout[name] = StoredPart(tensor.dtype, tensor.shape)
        else:
            target = plan.targets[module]
            parts = stored_parts(target.shape, target.weights, plan.method.format, tensor.dtype)
            layout |= {f"{module}.{part}": stored for part, stored in parts.items()}
    return files


def target_of(tensor: str, plan: QuantizationPlan) -> str | None:
    """Returns the module to quantize whose weight a tensor is; None for every other tensor."""
    module = tensor.removesuffix(".weight")
    return module if module != tensor and module in plan.targets else None


def copy_tensor(shard: Shard, name: str, reader: TensorReader, tensor: StoredPart) -> None:
    """Copies a tensor as it is, a few megabytes at a time."""
    for piece in _pieces(name, reader, tensor):
        shard.write(name, piece)


def write_index(output_dir: Path, master: CheckpointInfo, files: Mapping[str, Layout]) -> None:
    """Writes the index where the master has one: which file holds which tensor."""
    if INDEX_PATH not in master.files:
        return
    sizes = [prod(part.shape) * DTYPE_BITS[part.dtype] // 8 for layout in files.values() for part in layout.values()]
    weight_map = {name: file for file, layout in files.items() for name in layout}
    document = {"metadata": {"total_size": sum(sizes)}, "weight_map": dict(sorted(weight_map.items()))}
    (output_dir / INDEX_PATH).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def write_config(output_dir: Path, master: CheckpointInfo, quantization_config: Mapping[str, Any] | None) -> None:
    """Writes the master's own config.json, with quantization_config added if the format has one.

    Its own, because transformers rewrites it in its own version's words.
    """
    config = master.config | ({} if quantization_config is None else {"quantization_config": dict(quantization_config)})
    (output_dir / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _pieces(name: str, reader: TensorReader, tensor: StoredPart) -> Iterator[bytes]:
    num_rows = tensor.shape[0] if tensor.shape else 1
    row_bytes = max(1, prod(tensor.shape[1:]) * DTYPE_BITS[tensor.dtype] // 8)
    step = max(1, PIECE_BYTES // row_bytes)
    for start in range(0, num_rows, step):
        yield reader.byte_rows(name, start, min(step, num_rows - start)).tobytes()
