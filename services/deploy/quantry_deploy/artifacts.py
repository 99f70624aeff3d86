"""The versions on this host's disk: pulled from the vault once, checked, and kept by manifest digest.

``<directory>/<manifest digest>/`` is a complete version or it is not there: files are fetched into a folder beside it, their
digests checked, and the folder renamed. A marker inside says which files it must have, and how each looked on disk when its bytes
were last hashed. A folder is served from only if its files look so still and this process has hashed it itself: after a restart each
is hashed once more, and so is one that looks changed. That costs reading it: a second or so for each GiB.
"""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

import structlog

from quantry_blobs.errors import DigestMismatch
from quantry_core.errors import NotServable, Unavailable
from quantry_core.ids import uuid7
from quantry_core.names import check_file_path
from quantry_core.versions import ManifestFile, VersionDetail, manifest_digest
from quantry_deploy.markers import MARKER, Look, look_at, read_marker, touch, write_marker

INCOMING_PREFIX = ".incoming-"
READ_BYTES = 1024**2

Report = Callable[[float], None]
"""Called with the share of bytes that are there, 0 to 1."""

_log = structlog.get_logger(__name__)


class FileSource(Protocol):
    """Where files come from: ``quantry_blobs.vault.Vault``."""

    def fetch(self, file: ManifestFile, to: Path) -> None:
        """Downloads a file; raises DigestMismatch and keeps nothing if it is not that file."""
        ...


class ArtifactCache:
    """Complete versions in one directory. Its methods block; call them from a thread."""

    def __init__(
        self, source: FileSource, directory: Path, *, max_bytes: int | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        """``max_bytes`` is what all versions together may take: the one used longest ago goes when room is needed. None: no limit, and
        what nobody wants goes at the next ``prune``."""
        self._source = source
        self._directory = directory
        self._max_bytes = max_bytes
        self._clock = clock
        self._lock = threading.Lock()
        self._incoming: dict[str, int] = {}
        """Bytes that will be there of what is being fetched, by folder name."""
        self._verified: dict[str, Look] = {}
        """How the files of a version looked when this process hashed them, by manifest digest."""
        self._kept: set[str] | None = None
        """What was wanted at the last prune; None before the first: then nothing may go."""
        self._used: set[str] = set()
        """What was used since."""

    @property
    def directory(self) -> Path:
        """Where the folder of each version lies, by its manifest digest."""
        return self._directory

    def find(self, version: VersionDetail) -> Path | None:
        """Returns the version's folder if it is here, hashed by this process, and looks as it did then.

        One that lacks a file or has one of another size is removed; one that only looks changed is hashed again by ``pull``.
        """
        folder = self._directory / version.manifest_digest
        if not folder.is_dir():
            return None
        look = look_at(folder)
        if look is None or not _is_complete(folder, look, version):
            self._discard(folder)
            return None
        if self._verified.get(version.manifest_digest) != look:
            return None
        self._use(folder)
        return folder

    def pull(self, version: VersionDetail, report: Report) -> Path:
        """Returns the version's folder, every file hashed; fetched if it is not here yet or is not what its digests say.

        Raises DigestMismatch if the manifest or any file is not what its digest says, StoreUnavailable if the vault is away, NotServable
        if it is larger than this cache, Unavailable while there is no room beside what is in use, OSError if the disk is full. Nothing is
        kept then.
        """
        if manifest_digest(version.files) != version.manifest_digest:
            raise DigestMismatch(f"the file list of {version.ref} does not have the digest {version.manifest_digest}")
        found = self.find(version) or self._verify(version)
        if found is not None:
            return found
        incoming = self._directory / f"{INCOMING_PREFIX}{uuid7().hex}"
        self._make_room(version, incoming.name)
        try:
            incoming.mkdir(parents=True, mode=0o755)
            self._fetch_all(version, incoming, report)
            look = write_marker(incoming, {file.path: file.size_bytes for file in version.files})
            return self._settle(incoming, version, look)
        finally:
            shutil.rmtree(incoming, ignore_errors=True)
            with self._lock:
                self._incoming.pop(incoming.name, None)

    def prune(self, keep: Collection[str]) -> int:
        """Says which versions are wanted, by manifest digest, and removes what a killed process left half-fetched.

        Without a limit every other version goes; with one, others go only while all together take more. Returns how many went. What this
        cache is fetching stays.
        """
        with self._lock:
            self._kept, self._used = set(keep), set()
            if not self._directory.is_dir():
                return 0
            left = [path for path in self._directory.iterdir() if path.name not in self._incoming and not _is_version(path)]
            for path in left:
                _remove(path)
            others = [path for path in self._versions() if path.name not in keep]
            if self._max_bytes is None:
                for path in others:
                    self._evict(path)
                return len(left) + len(others)
            return len(left) + self._evict_until(self._max_bytes)

    def size_bytes(self) -> int:
        """Returns the bytes of all versions that are here, and of those that are being fetched."""
        return sum(_stated_bytes(path) for path in self._versions()) + sum(self._incoming.values())

    def _verify(self, version: VersionDetail) -> Path | None:
        """Returns a folder that is here once its bytes were found to be what the digests say; removes it if they are not."""
        folder = self._directory / version.manifest_digest
        if not folder.is_dir():
            return None
        look = look_at(folder)
        for file in version.files:
            if _sha256(folder / check_file_path(file.path)) != file.sha256:
                _log.warning("damaged files are fetched again", version=version.ref, file=file.path)
                self._discard(folder)
                return None
        write_marker(folder, {file.path: file.size_bytes for file in version.files})
        if look is not None:
            # As they looked before the first byte was read: what was written meanwhile looks changed.
            self._verified[folder.name] = look
        self._use(folder)
        return folder

    def _make_room(self, version: VersionDetail, incoming: str) -> None:
        needed_bytes = sum(file.size_bytes for file in version.files)
        with self._lock:
            if self._max_bytes is not None:
                if needed_bytes > self._max_bytes:
                    raise NotServable(
                        f"{version.ref} has {needed_bytes:,} bytes and this host keeps {self._max_bytes:,} of all versions together "
                        "(QUANTRY_DEPLOY_CACHE_BYTES)"
                    )
                self._evict_until(self._max_bytes - needed_bytes)
                taken_bytes = self.size_bytes()
                if taken_bytes + needed_bytes > self._max_bytes:
                    raise Unavailable(
                        f"there is no room for {needed_bytes:,} bytes: {taken_bytes:,} of {self._max_bytes:,} are in use on this host"
                    )
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o755)
            free_bytes = shutil.disk_usage(self._directory).free
            if needed_bytes > free_bytes:
                raise OSError(errno.ENOSPC, f"{needed_bytes:,} bytes are needed and {free_bytes:,} are free on its disk")
            self._incoming[incoming] = needed_bytes

    def _evict_until(self, max_bytes: int) -> int:
        """Removes what nobody wants or has just used, the one used longest ago first, until the rest is no larger; returns how many."""
        if self._kept is None:
            return 0
        kept = self._kept | self._used
        others = sorted((path for path in self._versions() if path.name not in kept), key=_used_at)
        num_evicted = 0
        while others and self.size_bytes() > max_bytes:
            self._evict(others.pop(0))
            num_evicted += 1
        return num_evicted

    def _evict(self, folder: Path) -> None:
        self._verified.pop(folder.name, None)
        self._discard(folder)

    def _versions(self) -> list[Path]:
        return [path for path in self._directory.iterdir() if _is_version(path)] if self._directory.is_dir() else []

    def _use(self, folder: Path) -> None:
        with self._lock:
            self._used.add(folder.name)
        touch(folder, self._clock())

    def _fetch_all(self, version: VersionDetail, incoming: Path, report: Report) -> None:
        total_bytes = max(1, sum(file.size_bytes for file in version.files))
        fetched_bytes = 0
        for file in version.files:
            report(fetched_bytes / total_bytes)
            target = incoming / check_file_path(file.path)
            target.parent.mkdir(exist_ok=True)
            self._source.fetch(file, target)
            fetched_bytes += file.size_bytes

    def _settle(self, incoming: Path, version: VersionDetail, look: Look) -> Path:
        folder = self._directory / version.manifest_digest
        try:
            incoming.rename(folder)
        except OSError:
            # Somebody else was first; theirs is as good if its bytes are.
            found = self._verify(version)
            if found is None:
                raise
            return found
        self._verified[folder.name] = look
        self._use(folder)
        return folder

    def _discard(self, folder: Path) -> None:
        """Renames first: a folder that is half removed must not look like a version."""
        self._verified.pop(folder.name, None)
        doomed = self._directory / f"{INCOMING_PREFIX}{uuid7().hex}"
        with suppress(FileNotFoundError):
            # Somebody else has seen it too.
            folder.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def read_config(folder: Path) -> dict[str, Any]:
    """Returns a pulled version's config.json."""
    document = json.loads((folder / "config.json").read_text())
    if not isinstance(document, dict):
        raise ValueError(f"{folder / 'config.json'} is not a JSON object")
    return document


def _is_complete(folder: Path, look: Look, version: VersionDetail) -> bool:
    """The marker names exactly the manifest's files, and each is there with its size."""
    expected = {file.path: file.size_bytes for file in version.files}
    return read_marker(folder) == expected and {path: one[0] for path, one in look.items()} == expected


def _is_version(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink() and not path.name.startswith(INCOMING_PREFIX)


def _stated_bytes(folder: Path) -> int:
    return sum((read_marker(folder) or {}).values())


def _used_at(folder: Path) -> float:
    try:
        return (folder / MARKER).stat().st_mtime
    except OSError:
        return 0.0


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(READ_BYTES):
                digest.update(block)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
