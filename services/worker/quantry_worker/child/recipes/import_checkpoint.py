"""Imports a 16-bit checkpoint as a master: from a folder below an allowed root, or from the Hugging Face hub.

Nothing is loaded; headers are read and bytes are copied. The rules are those of quantry_core.checkpoints, applied to the
copy, so that what was checked is what is kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import check_master, inspect_checkpoint
from quantry_core.errors import SourceRefused
from quantry_core.jobs import ImportSpec
from quantry_core.methods import Format
from quantry_core.versions import VersionKind
from quantry_worker.child.reporter import Reporter
from quantry_worker.child.toolchain import toolchain
from quantry_worker.protocol import ChildResult, ChildTask, ChildVersion

HUB_PREFIX = "hf:"
FILE_MODE = 0o644


def run(task: ChildTask, reporter: Reporter) -> ChildResult:
    """Brings the checkpoint into the output folder and returns it as a master; raises SourceRefused if it is not fit to be one."""
    if not isinstance(task.spec, ImportSpec):
        raise TypeError(f"the import recipe got a {task.spec.type} job")
    source = task.spec.source
    recipe = {"source": source}
    versions = toolchain()
    if source.startswith(HUB_PREFIX):
        reporter.progress("downloading", 0.0, source)
        # By name: a folder's import need not wait until the hub's client is imported.
        recipe["commit"] = import_module("quantry_worker.child.recipes.hub").download(source, task.output_dir)
        versions = toolchain("huggingface-hub")
    else:
        directory = allowed_directory(source, task.import_roots)
        # Before the copy too, so that a folder that is no checkpoint is refused without reading it.
        check_master(inspect_checkpoint(DirectoryCheckpoint(directory)))
        copy_checkpoint(directory, task.output_dir, reporter)
    reporter.progress("checking", 0.95)
    info = inspect_checkpoint(DirectoryCheckpoint(task.output_dir))
    dtype = check_master(info)
    for name in info.files:
        (task.output_dir / name).chmod(FILE_MODE)
    return ChildResult(
        version=ChildVersion(kind=VersionKind.MASTER, format=Format.SAFETENSORS, dtype=dtype, recipe=recipe, toolchain=versions),
        metrics={"num_parameters": info.num_parameters, "weights_bytes": info.weights_bytes, "num_files": len(info.files)},
    )


def allowed_directory(source: str, import_roots: Iterable[Path]) -> Path:
    """Returns the folder with all links resolved; raises SourceRefused unless it lies below an allowed root."""
    path = Path(source)
    if not path.is_absolute():
        raise SourceRefused(f"{source!r} is neither an absolute path nor {HUB_PREFIX}<owner>/<name>")
    try:
        resolved = path.resolve(strict=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise SourceRefused(f"{source!r} cannot be read on this worker: {error}") from error
    roots = [root.resolve() for root in import_roots]
    if not any(resolved.is_relative_to(root) for root in roots):
        allowed = ", ".join(str(root) for root in roots) or "none is set"
        raise SourceRefused(f"{source!r} is outside the folders that imports may read ({allowed})")
    return resolved


def copy_checkpoint(source: Path, output_dir: Path, reporter: Reporter) -> None:
    """Copies every file of a checkpoint. No hard links: a later write to the source must not reach the copy."""
    checkpoint = DirectoryCheckpoint(source)
    sizes = checkpoint.files()
    total_bytes, done_bytes = max(1, sum(sizes.values())), 0
    for name in sorted(sizes):
        reporter.progress("copying", 0.95 * done_bytes / total_bytes, name)
        target = output_dir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(checkpoint.path_of(name), target)
        done_bytes += sizes[name]
