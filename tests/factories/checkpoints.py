"""Small checkpoints on disk and in memory, well formed and broken on purpose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from quantry_core.safetensors import DTYPE_BITS

CONFIG: dict[str, Any] = {"model_type": "llama", "architectures": ["LlamaForCausalLM"]}


class MemoryCheckpoint:
    """A CheckpointReader over bytes in memory."""

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self._contents = dict(contents)

    def files(self) -> dict[str, int]:
        return {path: len(content) for path, content in self._contents.items()}

    def read(self, path: str, start: int, length: int) -> bytes:
        return self._contents[path][start : start + length]


def safetensors_bytes(tensors: Mapping[str, tuple[str, tuple[int, ...]]]) -> bytes:
    """Returns a well-formed file of zeros with these tensors: name -> (dtype, shape)."""
    header: dict[str, Any] = {}
    position = 0
    for name, (dtype, shape) in tensors.items():
        size = prod(shape) * DTYPE_BITS[dtype] // 8
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(position)


def master_contents(**changes: bytes | None) -> dict[str, bytes]:
    """Returns the files of a tiny good master, large enough for groups of 128.

    A change replaces a file (dots written as __), or removes it where None.
    """
    contents = {
        "config.json": json.dumps(CONFIG).encode(),
        "tokenizer.json": b"{}",
        "model.safetensors": safetensors_bytes({"a.weight": ("F16", (32, 128)), "norm.weight": ("F32", (4,))}),
    }
    for name, content in changes.items():
        path = name.replace("__", ".")
        if content is None:
            contents.pop(path)
        else:
            contents[path] = content
    return contents


def write_checkpoint(directory: Path, contents: Mapping[str, bytes]) -> Path:
    """Writes the files below ``directory`` and returns it."""
    directory.mkdir(parents=True, exist_ok=True)
    for path, content in contents.items():
        (directory / path).write_bytes(content)
    return directory
