"""A checkpoint in a local directory: listed without following links out of it, read, and hashed. Needs no S3 library."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Callable, Mapping
from pathlib import Path

from quantry_core.checkpoints import MAX_FILES
from quantry_core.errors import SourceRefused
from quantry_core.names import check_file_path
from quantry_core.versions import ManifestFile

COPY_BYTES = 1024**2


def _nobody(_num_bytes: int) -> None:
    """Nobody wants to know."""


class DirectoryCheckpoint:
    """A directory as a ``CheckpointReader``. Hidden files and folders (``.git``, ``.cache``) are not part of it.

    Raises SourceRefused for a link that leads out of the directory, for what is no plain file, and for what cannot be read.
    Others may write the directory meanwhile: every byte comes through ``open``, which looks at what it holds open.
    """

    def __init__(self, path: Path) -> None:
        self._root = path.resolve()
        if not self._root.is_dir():
            raise SourceRefused(f"{path} is not a directory")
        self._sizes = self._walk()

    @property
    def root(self) -> Path:
        """Where the directory really lay when this was made; no file outside it is read."""
        return self._root

    def files(self) -> Mapping[str, int]:
        return self._sizes

    def path_of(self, path: str) -> Path:
        """Returns where a listed file lies, links resolved; raises SourceRefused if that is outside the directory."""
        resolved = (self._root / path).resolve()
        if not resolved.is_relative_to(self._root):
            raise SourceRefused(f"{path} is a link that leads out of the directory; copy the file there instead")
        return resolved

    def open(self, path: str) -> io.BufferedReader:
        """Opens a file, wherever links to it led at that moment; raises SourceRefused unless it lies below the root and is plain."""
        try:
            # Not blocking: a pipe that nobody writes would hold the caller for ever.
            descriptor = os.open(self._root / path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            raise SourceRefused(f"{path} cannot be read: {error.strerror}") from error
        try:
            # The kernel's own name of what is open. Resolving it once more would look at links that can change again.
            if not Path(f"/proc/self/fd/{descriptor}").readlink().is_relative_to(self._root):
                raise SourceRefused(f"{path} is a link that leads out of the directory; copy the file there instead")
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise SourceRefused(f"{path} is no plain file; remove it")
        except BaseException:
            os.close(descriptor)
            raise
        return os.fdopen(descriptor, "rb")

    def copy_to(self, path: str, target: Path, on_copied: Callable[[int], object] = _nobody) -> None:
        """Writes a file's bytes to ``target``, over what is there; calls ``on_copied`` with the number of bytes of each piece."""
        with self.open(path) as file, target.open("wb") as copy:
            while piece := file.read(COPY_BYTES):
                copy.write(piece)
                on_copied(len(piece))

    def read(self, path: str, start: int, length: int) -> bytes:
        try:
            with self.open(path) as file:
                file.seek(start)
                return file.read(length)
        except OSError as error:
            raise SourceRefused(f"{path} cannot be read: {error.strerror}") from error

    def _walk(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        for folder, folder_names, file_names in os.walk(self._root, onerror=_refuse_unreadable):
            folder_names[:] = sorted(name for name in folder_names if not name.startswith("."))
            here = Path(folder)
            for name in folder_names:
                if (here / name).is_symlink():
                    raise SourceRefused(f"{(here / name).relative_to(self._root)} is a link to a folder; copy the folder there instead")
            for name in sorted(file_names):
                if not name.startswith("."):
                    path = (here / name).relative_to(self._root).as_posix()
                    sizes[path] = self._file_size(path)
            if len(sizes) > MAX_FILES:
                raise SourceRefused(
                    f"there are more than the {MAX_FILES} files a checkpoint may have; is {self._root} a model's directory?"
                )
        return sizes

    def _file_size(self, path: str) -> int:
        try:
            status = self.path_of(path).stat()
        except (OSError, RuntimeError) as error:
            # Path.resolve raises RuntimeError for links that lead in a circle.
            raise SourceRefused(f"{path} cannot be read: {error}") from error
        if not stat.S_ISREG(status.st_mode):
            raise SourceRefused(f"{path} is no plain file; remove it")
        return status.st_size


def hash_directory(path: Path) -> list[ManifestFile]:
    """Returns the manifest of a directory's files, sorted by path, each hashed; raises SourceRefused as DirectoryCheckpoint does."""
    checkpoint = DirectoryCheckpoint(path)
    return [_hash_file(checkpoint, name) for name in sorted(checkpoint.files())]


def _hash_file(checkpoint: DirectoryCheckpoint, name: str) -> ManifestFile:
    try:
        check_file_path(name)
        with checkpoint.open(name) as file:
            digest = hashlib.file_digest(file, "sha256")
            # Where the reading ended: the size of exactly the bytes that were hashed.
            size_bytes = file.tell()
    except ValueError as error:
        raise SourceRefused(str(error)) from error
    except OSError as error:
        raise SourceRefused(f"{name} cannot be read: {error.strerror}") from error
    return ManifestFile(path=name, size_bytes=size_bytes, sha256=digest.hexdigest())


def _refuse_unreadable(error: OSError) -> None:
    raise SourceRefused(f"{error.filename} cannot be read: {error.strerror}") from error
