"""What adapters are merged into: 16-bit weights as they are stored, or those that a quantized version stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import CheckpointInfo, inspect_checkpoint
from quantry_core.errors import InvalidInput
from quantry_core.families import family_of
from quantry_core.methods import Format
from quantry_worker.child.formats.stored import StoredCheckpoint
from quantry_worker.child.formats.table import open_stored
from quantry_worker.child.numerics.dequantized import BLOCK_WEIGHTS
from quantry_worker.child.numerics.tensors import TensorReader


class Weights(Protocol):
    """Tensors under the names, in the shapes and in the files of a 16-bit checkpoint."""

    @property
    def master_dir(self) -> Path:
        """The 16-bit checkpoint's folder."""
        ...

    @property
    def master(self) -> CheckpointInfo: ...

    def tensor(self, name: str) -> torch.Tensor:
        """Returns a tensor as float32, in the shape that the 16-bit checkpoint has it in."""
        ...

    @property
    def is_master(self) -> bool:
        """Tells whether these are the 16-bit checkpoint's own numbers."""
        ...


class MasterWeights:
    """The 16-bit checkpoint itself."""

    is_master = True

    def __init__(self, master_dir: Path) -> None:
        self.master_dir = master_dir
        files = DirectoryCheckpoint(master_dir)
        self.master = inspect_checkpoint(files)
        self._reader = TensorReader(files, self.master)

    def tensor(self, name: str) -> torch.Tensor:
        return torch.from_numpy(self._reader.floats(name).copy())


class DequantizedWeights:
    """A quantized version, dequantized by our own readers of its format."""

    is_master = False

    def __init__(self, quantized_dir: Path, form: Format, master_dir: Path) -> None:
        """Raises SourceRefused if the version cannot be read, InvalidInput if its weights are its kernels' alone."""
        self.master_dir = master_dir
        self._original = MasterWeights(master_dir)
        self.master = self._original.master
        self._stored: StoredCheckpoint = open_stored(form, DirectoryCheckpoint(quantized_dir), self.master)
        if self._stored.opaque:
            raise InvalidInput(f"the weights of format {form} cannot be dequantized here: {self._stored.opaque}")
        self._transposed = family_of(self.master.config).transposed

    def tensor(self, name: str) -> torch.Tensor:
        module = name.removesuffix(".weight")
        quantized = None if module == name else self._stored.modules.get(module)
        if quantized is None:
            # What the quantized version leaves out is the master's: a tied output layer, for one.
            is_stored = name in self._stored.info.tensors
            return torch.from_numpy(self._stored.reader.floats(name).copy()) if is_stored else self._original.tensor(name)
        weight = torch.from_numpy(np.concatenate(list(quantized.blocks(BLOCK_WEIGHTS))))
        return weight.T.contiguous() if module.rpartition(".")[2] in self._transposed else weight
