"""All weights of a training written as a version: the base's files, with its tensors trained."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import check_master, inspect_checkpoint
from quantry_worker.child.backends.master_model import restore_dtypes
from quantry_worker.child.failures import Diverged
from quantry_worker.child.numerics.tensors import TensorReader, nonfinite_tensors
from quantry_worker.child.plan import carried_files, names_in_words

CONFIG = "config.json"
FILE_MODE = 0o644


def save_full(model: Any, base_dir: Path, output_dir: Path) -> str:
    """Writes the weights in the base's dtypes, its config.json and all that is no weight; returns the dtype of its matrices.

    Raises Diverged where a weight is more than that dtype holds.
    """
    files = DirectoryCheckpoint(base_dir)
    master = inspect_checkpoint(files)
    restore_dtypes(model, master)
    model.save_pretrained(output_dir)
    (output_dir / "generation_config.json").unlink(missing_ok=True)
    for name in [CONFIG, *carried_files(files.files())]:
        target = output_dir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(files.path_of(name), target)
    written = DirectoryCheckpoint(output_dir)
    for name in written.files():
        (output_dir / name).chmod(FILE_MODE)
    info = inspect_checkpoint(written)
    broken = nonfinite_tensors(TensorReader(written, info), info)
    if broken:
        raise Diverged(f"the trained weights in {names_in_words(broken)} are more than {check_master(master)} holds")
    return check_master(master)
