"""The versions on this host's disk: pulled from the vault once, checked, and kept by manifest digest.

``<directory>/<manifest digest>/`` is a complete version or it is not there: files are fetched into a folder beside it,
their digests checked, and the folder renamed. A marker inside says which files it must have; their sizes are checked at
every use.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, Protocol

from quantry_blobs.errors import DigestMismatch
from quantry_core.ids import uuid7
from quantry_core.names import check_file_path
from quantry_core.versions import ManifestFile, VersionDetail, manifest_digest

MARKER = ".quantry-complete.json"
INCOMING_PREFIX = ".incoming-"

Report = Callable[[float], None]
"""Called with the share of bytes that are there, 0 to 1."""


class FileSource(Protocol):
    """Where files come from: ``quantry_blobs.vault.Vault``."""

    def fetch(self, file: ManifestFile, to: Path) -> None:
        """Downloads a file; raises DigestMismatch and keeps nothing if it is not that file."""
        ...


class ArtifactCache:
    """Complete versions in one directory. Its methods block; call them from a thread."""

    def __init__(self, source: FileSource, directory: Path) -> None:
        self._source = source
        self._directory = directory
        self._incoming: set[str] = set()

    @property
    def directory(self) -> Path:
        """Where the folder of each version lies, by its manifest digest."""
        return self._directory

    def find(self, version: VersionDetail) -> Path | None:
        """Returns the version's folder if it is here and every file has its size; a damaged one is removed."""
        folder = self._directory / version.manifest_digest
        if not folder.is_dir():
            return None
        if _is_complete(folder, version):
            return folder
        self._discard(folder)
        return None

    def pull(self, version: VersionDetail, report: Report) -> Path:
        """Returns the version's folder, fetched if it is not here yet.

        Raises DigestMismatch if the manifest or any file is not what its digest says, StoreUnavailable if the vault is
        away, OSError if the disk is full. Nothing is kept then.
        """
        if manifest_digest(version.files) != version.manifest_digest:
            raise DigestMismatch(f"the file list of {version.ref} does not have the digest {version.manifest_digest}")
        found = self.find(version)
        if found is not None:
            return found
        incoming = self._directory / f"{INCOMING_PREFIX}{uuid7().hex}"
        self._incoming.add(incoming.name)
        try:
            incoming.mkdir(parents=True, mode=0o755)
            self._fetch_all(version, incoming, report)
            (incoming / MARKER).write_text(json.dumps({file.path: file.size_bytes for file in version.files}))
            return self._settle(incoming, version)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
            self._incoming.discard(incoming.name)

    def prune(self, keep: Collection[str]) -> int:
        """Removes every version whose manifest digest is not in ``keep``, and what a killed process left half-fetched.

        Returns how many there were. What this cache is fetching stays.
        """
        if not self._directory.is_dir():
            return 0
        unwanted = [path for path in self._directory.iterdir() if path.name not in keep and path.name not in self._incoming]
        for path in unwanted:
            _remove(path)
        return len(unwanted)

    def _fetch_all(self, version: VersionDetail, incoming: Path, report: Report) -> None:
        total_bytes = max(1, sum(file.size_bytes for file in version.files))
        fetched_bytes = 0
        for file in version.files:
            report(fetched_bytes / total_bytes)
            target = incoming / check_file_path(file.path)
            target.parent.mkdir(exist_ok=True)
            self._source.fetch(file, target)
            fetched_bytes += file.size_bytes

    def _settle(self, incoming: Path, version: VersionDetail) -> Path:
        folder = self._directory / version.manifest_digest
        try:
            incoming.rename(folder)
        except OSError:
            # Somebody else was first; theirs is as good if it is complete.
            found = self.find(version)
            if found is None:
                raise
        return folder

    def _discard(self, folder: Path) -> None:
        """Renames first: a folder that is half removed must not look like a version."""
        doomed = self._directory / f"{INCOMING_PREFIX}{uuid7().hex}"
        folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def read_config(folder: Path) -> dict[str, Any]:
    """Returns a pulled version's config.json."""
    document = json.loads((folder / "config.json").read_text())
    if not isinstance(document, dict):
        raise ValueError(f"{folder / 'config.json'} is not a JSON object")
    return document


def _is_complete(folder: Path, version: VersionDetail) -> bool:
    """The marker names exactly the manifest's files, and each is there with its size."""
    expected = {file.path: file.size_bytes for file in version.files}
    try:
        if json.loads((folder / MARKER).read_text()) != expected:
            return False
        found = {str(path.relative_to(folder)): path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    except (OSError, ValueError):
        return False
    found.pop(MARKER, None)
    return found == expected
