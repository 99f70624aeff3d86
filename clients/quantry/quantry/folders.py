"""A model's folder on this machine, looked at before anything is sent: what the server would refuse is told at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from quantry.errors import UploadRefused
from quantry_core.checkpoints import check_master, inspect_checkpoint
from quantry_core.errors import SourceRefused


class LocalFolder:
    """The files of a folder, as quantry_core.checkpoints reads them. Hidden files and folders are not part of it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._sizes = {
            path.relative_to(directory).as_posix(): path.stat().st_size
            for path in sorted(directory.rglob("*"))
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(directory).parts)
        }

    def files(self) -> Mapping[str, int]:
        return self._sizes

    def path_of(self, path: str) -> Path:
        """Returns where a file lies."""
        return self._directory / path

    def read(self, path: str, start: int, length: int) -> bytes:
        with self.path_of(path).open("rb") as file:
            file.seek(start)
            return file.read(length)


def master_folder(directory: Path) -> LocalFolder:
    """Returns a folder that is fit to become a master, by its headers; raises UploadRefused saying what is wrong with it."""
    if not directory.is_dir():
        raise UploadRefused(f"{directory} is no directory on this machine")
    folder = LocalFolder(directory)
    try:
        check_master(inspect_checkpoint(folder))
    except SourceRefused as error:
        raise UploadRefused(f"{directory}: {error.detail}") from error
    return folder
