"""Imports a 16-bit checkpoint as a master: from a folder below an allowed root, from the Hugging Face hub, or from what the
supervisor fetched out of a bucket or an upload.

No model is loaded: headers are read, bytes are copied, and weights are looked through for what is no number. The rules are
those of quantry_core.checkpoints, applied to the copy, so that what was checked is what is kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import CheckpointInfo, check_master, inspect_checkpoint, read_card
from quantry_core.errors import SourceRefused
from quantry_core.jobs import ImportSpec, InputRole
from quantry_core.methods import Format
from quantry_core.sources import BucketSource, HubSource, UploadSource, allowing_root, parse_source
from quantry_core.versions import VersionKind
from quantry_worker.child.inputs import inputs_of
from quantry_worker.child.numerics.tensors import TensorReader
from quantry_worker.child.plan import names_in_words
from quantry_worker.child.reporter import Reporter, Units
from quantry_worker.child.toolchain import toolchain
from quantry_worker.disk import check_room
from quantry_worker.protocol import ChildResult, ChildTask, ChildVersion

FILE_MODE = 0o644
COPIED = 0.8
"""Share of the work that is done when all bytes are copied; the rest is looking through them."""


def run(task: ChildTask, reporter: Reporter) -> ChildResult:
    """Brings the checkpoint into the output folder and returns it as a master; raises SourceRefused if it is not fit to be one."""
    if not isinstance(task.spec, ImportSpec):
        raise TypeError(f"the import recipe got a {task.spec.type} job")
    source = parse_source(task.spec.source)
    recipe = {"source": task.spec.source}
    versions = toolchain()
    match source:
        case HubSource():
            # By name: a folder's import need not wait until the hub's client is imported.
            hub = import_module("quantry_worker.child.recipes.hub")
            recipe["commit"] = hub.download(source, task.output_dir, reporter)
            versions = toolchain("huggingface-hub")
        case Path():
            _copy(source, allowed_directory(source, task.import_roots), task.output_dir, reporter)
        case BucketSource() | UploadSource():
            directory = _fetched_directory(task).resolve()
            _copy(directory, directory, task.output_dir, reporter)
    checkpoint = DirectoryCheckpoint(task.output_dir)
    info = inspect_checkpoint(checkpoint)
    dtype = check_master(info)
    check_numbers(TensorReader(checkpoint, info), info, reporter)
    for name in info.files:
        (task.output_dir / name).chmod(FILE_MODE)
    return ChildResult(
        version=ChildVersion(
            kind=VersionKind.MASTER,
            format=Format.SAFETENSORS,
            dtype=dtype,
            recipe=recipe,
            toolchain=versions,
            card=read_card(checkpoint),
        ),
        metrics={"num_parameters": info.num_parameters, "weights_bytes": info.weights_bytes, "num_files": len(info.files)},
    )


def check_numbers(reader: TensorReader, info: CheckpointInfo, reporter: Reporter) -> None:
    """Raises SourceRefused naming the tensors that hold an infinity or NaN: nothing could be fitted to them. Read piece by piece."""
    broken = []
    for number, name in enumerate(sorted(info.tensors), start=1):
        if reader.has_nonfinite(name):
            broken.append(name)
        share = COPIED + (1.0 - COPIED) * number / len(info.tensors)
        reporter.progress("checking", share, name, Units(number, len(info.tensors), "tensors"))
    if broken:
        raise SourceRefused(f"these weights hold infinities or NaN: {names_in_words(broken)}; such a model answers nothing of use")


def allowed_directory(path: Path, import_roots: Sequence[Path]) -> Path:
    """Returns the folder with all links resolved; raises SourceRefused unless it lies below an allowed root and is there."""
    try:
        resolved = path.resolve()
        # First: what lies outside the roots, and whether anything does, is nobody's business.
        allowing_root(path, resolved, {root.resolve(): root for root in import_roots})
        if not resolved.is_dir():
            raise SourceRefused(f"there is no directory {path} on this worker")
    except (OSError, RuntimeError) as error:
        # Path.resolve raises RuntimeError for links that lead in a circle.
        raise SourceRefused(f"{path} cannot be read on this worker: {error}") from error
    return resolved


def _fetched_directory(task: ChildTask) -> Path:
    """Returns where the supervisor put what a bucket or an upload holds; raises SourceRefused if nothing is there any more."""
    fetched = inputs_of(task, InputRole.SOURCE)
    if not fetched or not fetched[0].path.is_dir() or not any(fetched[0].path.iterdir()):
        raise SourceRefused("nothing is left of what was to be imported; has the upload expired?")
    return fetched[0].path


def _copy(given: Path, directory: Path, output_dir: Path, reporter: Reporter) -> None:
    checkpoint = DirectoryCheckpoint(directory)
    if checkpoint.root != directory:
        # A link was put in its place after the look at where it lies.
        raise SourceRefused(f"{given} changed while it was looked at")
    # Before the copy too, so that a folder that is no checkpoint is refused without reading it.
    check_master(inspect_checkpoint(checkpoint))
    copy_checkpoint(checkpoint, output_dir, reporter)


def copy_checkpoint(checkpoint: DirectoryCheckpoint, output_dir: Path, reporter: Reporter) -> None:
    """Copies every file of a checkpoint; raises DiskFull where there is no room for them.

    No hard links: a later write to the source must not reach the copy.
    """
    sizes = checkpoint.files()
    total_bytes, done_bytes = sum(sizes.values()), 0
    check_room(output_dir, total_bytes)
    for name in sorted(sizes):

        def on_copied(num_bytes: int, name: str = name) -> None:
            nonlocal done_bytes
            done_bytes += num_bytes
            reporter.progress("copying", COPIED * done_bytes / total_bytes, name, Units(done_bytes, total_bytes, "bytes"))

        target = output_dir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        checkpoint.copy_to(name, target, on_copied)
