"""What a model made of the texts, kept on disk, so that the model it is compared with need not be in memory beside it.

Of each corpus the log-probabilities of every scored token, one file for a batch (float32, as many bytes as scored tokens times the
vocabulary times 4), and where they are asked for the attention maps, one file for a window. Both are read back one at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file


def keep(directory: Path, items: Iterable[tuple[torch.Tensor, ...]]) -> Iterator[int]:
    """Writes each item to a file of its own as it comes, and yields how many there are by now."""
    directory.mkdir(parents=True)
    for index, item in enumerate(items):
        save_file({_name(place): tensor.contiguous() for place, tensor in enumerate(item)}, directory / _name(index))
        yield index + 1


def kept(directory: Path) -> Iterator[tuple[torch.Tensor, ...]]:
    """Yields in their order the items that were kept, and removes the file of each: they are large, and read once."""
    for path in sorted(directory.iterdir()):
        tensors = load_file(path)
        path.unlink()
        yield tuple(tensors[name] for name in sorted(tensors))


def _name(index: int) -> str:
    return f"{index:08d}"
