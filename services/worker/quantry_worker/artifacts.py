"""Files of an attempt: inputs out of the vault, results into staging and through the seal."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import stamina

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.errors import QuantryError, SealRefused
from quantry_core.execution import LeasedInput
from quantry_core.names import check_file_path
from quantry_core.vault import CheckpointSeal
from quantry_core.versions import ManifestFile, SealRequest, SealResult, manifest_digest
from quantry_worker.cache import BlobCache
from quantry_worker.control import Control
from quantry_worker.guard import Guard, Permission
from quantry_worker.patience import Patience
from quantry_worker.protocol import ChildInput, child_input

STORE_PATIENCE_S = 120.0
"""How long one file is tried again after its first failure while the store or the registry is away, before the attempt counts as lost."""

Result = TypeVar("Result")
Put = Callable[[str, Path], ManifestFile]


class VaultReader(Protocol):
    """As quantry_blobs.vault.Vault."""

    def fetch(self, file: ManifestFile, to: Path) -> None: ...


class StagingWriter(Protocol):
    """As quantry_blobs.vault.Staging."""

    def put(self, job_id: str, attempt: int, path: str, file: Path) -> ManifestFile: ...

    def put_artifact(self, job_id: str, attempt: int, path: str, file: Path) -> ManifestFile: ...

    def put_checkpoint(self, job_id: str, attempt: int, step: int, path: str, file: Path) -> ManifestFile: ...


class Pulled(NamedTuple):
    """Inputs that lie on disk now, and how much of them came how."""

    inputs: list[ChildInput]
    fetched_bytes: int
    cached_bytes: int


class Artifacts:
    """Moves files between this machine and the store. Its methods block; they look at the guard between files."""

    def __init__(self, vault: VaultReader, staging: StagingWriter, cache: BlobCache, control: Control) -> None:
        self._vault = vault
        self._staging = staging
        self._cache = cache
        self._control = control

    def pull(self, inputs: list[LeasedInput], directory: Path, guard: Guard) -> Pulled:
        """Brings every input into a folder ``<role>-<index>`` of its own; raises DiskFull, DigestMismatch, Unavailable or Stopped."""
        self._cache.check_room(file for leased in inputs for file in leased.files)

        def fetch(file: ManifestFile, to: Path) -> None:
            patiently(guard, lambda: self._vault.fetch(file, to))

        pulled: list[ChildInput] = []
        fetched_bytes = cached_bytes = 0
        for index, leased in enumerate(inputs):
            folder = directory / f"{leased.role}-{index}"
            folder.mkdir(parents=True)
            for file in leased.files:
                guard.check()
                # Checked at use: the path is joined to a folder here.
                if self._cache.link(file, folder / check_file_path(file.path), fetch):
                    cached_bytes += file.size_bytes
                else:
                    fetched_bytes += file.size_bytes
            pulled.append(child_input(leased, folder))
        return Pulled(pulled, fetched_bytes, cached_bytes)

    def push(self, job_id: str, attempt: int, directory: Path, guard: Guard) -> list[ManifestFile]:
        """Uploads the files of a folder to staging and has them sealed; returns their manifest, sorted by path.

        Raises SourceRefused for a folder that cannot be a version, SealRefused, StaleAttempt, Unavailable or Stopped.
        """
        files = self._stage(directory, guard, partial(self._staging.put, job_id, attempt))
        if not files:
            raise QuantryError("the child process reported a version but left no file")
        self._seal(files, guard, lambda: self._control.seal(SealRequest(job_id=job_id, attempt=attempt, files=files)))
        return files

    def push_artifacts(self, job_id: str, attempt: int, directory: Path, guard: Guard) -> list[ManifestFile]:
        """As ``push``, for files that are kept beside the job's version: raw results. There may be none."""
        files = self._stage(directory, guard, partial(self._staging.put_artifact, job_id, attempt))
        if files:
            self._seal(files, guard, lambda: self._control.seal_artifacts(SealRequest(job_id=job_id, attempt=attempt, files=files)))
        return files

    def push_checkpoint(self, job_id: str, attempt: int, step: int, directory: Path, permission: Permission) -> list[ManifestFile]:
        """As ``push``, for the checkpoint of a training job that lies in ``directory``."""
        files = self._stage(directory, permission, partial(self._staging.put_checkpoint, job_id, attempt, step))
        if not files:
            raise QuantryError(f"the checkpoint of step {step} has no files")
        request = CheckpointSeal(job_id=job_id, attempt=attempt, step=step, files=files)
        self._seal(files, permission, lambda: self._control.seal_checkpoint(request))
        return files

    def _stage(self, directory: Path, guard: Permission, put: Put) -> list[ManifestFile]:
        checkpoint = DirectoryCheckpoint(directory)
        files: list[ManifestFile] = []
        for path in sorted(checkpoint.files()):
            guard.check()
            file = checkpoint.path_of(path)
            files.append(patiently(guard, partial(put, path, file)))
        return files

    def _seal(self, files: list[ManifestFile], guard: Permission, seal: Callable[[], SealResult]) -> None:
        guard.check()
        sealed = patiently(guard, seal).manifest_digest
        if sealed != manifest_digest(files):
            raise SealRefused(f"the registry sealed a manifest with digest {sealed}, not {manifest_digest(files)}")


def patiently(guard: Permission, request: Callable[[], Result]) -> Result:
    """Returns what ``request`` returns, tried again while the other side is away."""
    return stamina.RetryingCaller(attempts=None, timeout=None)(Patience(STORE_PATIENCE_S, guard), request)
