"""What is evaluated: a version by itself, or an adapter on the version that it was trained on.

The base of an adapter comes among the job's inputs. Where there are several, it is the one that adapter_config.json names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.adapters import inspect_adapter
from quantry_core.errors import InvalidInput
from quantry_core.jobs import InputRole
from quantry_core.versions import VersionKind
from quantry_worker.child.inputs import inputs_of
from quantry_worker.child.libraries import load
from quantry_worker.child.numerics.model import load_model
from quantry_worker.protocol import ChildInput, ChildTask

ADAPTED = "quantry_worker.child.numerics.adapted"
"""A name: PEFT takes seconds to import, and most versions are no adapters."""


@dataclass(frozen=True)
class Subject:
    """A version that can be run."""

    version: ChildInput
    base: ChildInput | None = None
    """Of an adapter: the version that it was trained on."""

    @property
    def ref(self) -> str:
        return self.version.ref

    @property
    def id(self) -> str:
        return self.version.id

    @property
    def model_dir(self) -> Path:
        """The folder of config.json and the tokenizer."""
        return self.version.path if self.base is None else self.base.path

    @property
    def folders(self) -> list[Path]:
        """The folders that an engine loads: of an adapter its own, then that of its base."""
        return [self.version.path] if self.base is None else [self.version.path, self.base.path]

    def load(self) -> Any:
        """Returns the causal language model in evaluation mode, float32, an adapter unmerged.

        Raises InvalidInput for a format that nothing here reads, and for an adapter that does not fit its base.
        """
        if self.base is None:
            return load_model(self.version.path)
        load_adapted: Callable[[Path, Path], Any] = load(ADAPTED).load_adapted
        return load_adapted(self.base.path, self.version.path)


def subject_of(task: ChildTask, version: ChildInput) -> Subject:
    """Returns a version with what it takes to run it; raises InvalidInput or SourceRefused where an adapter's base is not there."""
    if version.kind is not VersionKind.ADAPTER:
        return Subject(version)
    wanted = inspect_adapter(DirectoryCheckpoint(version.path)).base_ref
    bases = [one for one in inputs_of(task, InputRole.ADAPTER_BASE) if one.ref == wanted]
    if not bases:
        raise InvalidInput(f"adapter {version.ref} was trained on {wanted}, which is not among the inputs of this job")
    return Subject(version, bases[0])
