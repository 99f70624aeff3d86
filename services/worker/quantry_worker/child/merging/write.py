"""Merged weights on disk: the 16-bit checkpoint's own files, in which only what changed is another number.

Every tensor keeps its name, dtype, shape and place, so an index, ties and sizes stay as they are. One tensor is in memory at a time,
in float32; what is stored is rounded once.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import CARD_PATH
from quantry_core.families import family_of
from quantry_core.safetensors import LENGTH_BYTES
from quantry_worker.child.backends.master_model import TORCH_DTYPES
from quantry_worker.child.failures import Diverged
from quantry_worker.child.merging.combine import Combination
from quantry_worker.child.merging.weights import Weights

FILE_MODE = 0o644

OnTensor = Callable[[int, int, str], None]
"""Told how many tensors are written, of how many, and the last one's name."""


def write_merged(weights: Weights, combination: Combination, output_dir: Path, on_tensor: OnTensor) -> list[str]:
    """Writes the merged checkpoint, and returns the names of the tensors that adapters changed.

    Raises Diverged naming a tensor that is infinite or not a number where it is stored.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    files = DirectoryCheckpoint(weights.master_dir)
    for name in files.files():
        # The card describes the weights as they were.
        if name != CARD_PATH:
            (output_dir / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(files.path_of(name), output_dir / name)
            (output_dir / name).chmod(FILE_MODE)
    updated = {f"{module}.weight" for module in combination.modules}
    names = sorted(name for name in weights.master.tensors if name in updated or not weights.is_master)
    for index, name in enumerate(names):
        _put(output_dir, weights, name, merged_tensor(weights, combination, name) if name in updated else weights.tensor(name))
        on_tensor(index + 1, len(names), name)
    return sorted(updated)


def merged_tensor(weights: Weights, combination: Combination, name: str) -> torch.Tensor:
    """Returns the weight of a module with its update, float32, in the shape that it is stored in."""
    module = name.removesuffix(".weight")
    weight = weights.tensor(name)
    if module.rpartition(".")[2] in family_of(weights.master.config).transposed:
        return (weight.T + combination.update(module, weight.T)).T.contiguous()
    return weight + combination.update(module, weight)


def _put(output_dir: Path, weights: Weights, name: str, tensor: torch.Tensor) -> None:
    """Writes a tensor to its place in a copy of the 16-bit checkpoint."""
    info = weights.master.tensors[name]
    stored = tensor.to(TORCH_DTYPES[info.dtype])
    if not torch.isfinite(stored).all():
        raise Diverged(f"merged, {name} is infinite or not a number in {info.dtype}")
    with (output_dir / weights.master.tensor_files[name]).open("r+b") as file:
        header_bytes = int.from_bytes(file.read(LENGTH_BYTES), "little")
        file.seek(LENGTH_BYTES + header_bytes + info.begin)
        file.write(stored.contiguous().view(torch.uint8).numpy().tobytes())
