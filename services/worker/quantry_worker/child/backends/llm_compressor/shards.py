"""Safetensors files written one after another, none larger than a limit, with the index that says what lies where."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from quantry_core.checkpoints import INDEX_PATH

SHARD_BYTES = 2 * 1024**3
"""A shard is written once it holds this much; it is in memory until then."""


class ShardWriter:
    """Collects tensors and writes them; ``finish`` gives the files their names, which say how many there are."""

    def __init__(self, directory: Path, shard_bytes: int = SHARD_BYTES) -> None:
        self._directory = directory
        self._shard_bytes = shard_bytes
        self._tensors: dict[str, torch.Tensor] = {}
        self._num_bytes = 0
        self._shards: list[list[str]] = []
        self._total_bytes = 0

    def add(self, tensors: dict[str, torch.Tensor]) -> None:
        """Takes tensors by name; they stay together in one shard."""
        size = sum(tensor.nbytes for tensor in tensors.values())
        if self._tensors and self._num_bytes + size > self._shard_bytes:
            self.end_shard()
        self._tensors |= tensors
        self._num_bytes += size

    def end_shard(self) -> None:
        """Writes what is collected, if anything is."""
        if not self._tensors:
            return
        save_file(self._tensors, self._path(len(self._shards)), metadata={"format": "pt"})
        self._shards.append(sorted(self._tensors))
        self._total_bytes += self._num_bytes
        self._tensors, self._num_bytes = {}, 0

    def finish(self) -> None:
        """Writes the rest and the index; a single file is model.safetensors and needs none."""
        self.end_shard()
        num_shards = len(self._shards)
        if num_shards == 1:
            self._path(0).rename(self._directory / "model.safetensors")
            return
        weight_map: dict[str, str] = {}
        for index, names in enumerate(self._shards):
            file = f"model-{index + 1:05d}-of-{num_shards:05d}.safetensors"
            self._path(index).rename(self._directory / file)
            weight_map |= dict.fromkeys(names, file)
        content = {"metadata": {"total_size": self._total_bytes}, "weight_map": dict(sorted(weight_map.items()))}
        (self._directory / INDEX_PATH).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")

    def _path(self, index: int) -> Path:
        return self._directory / f"part-{index:05d}.safetensors"
