"""A version pushed to a repository of the Hugging Face hub, as ``export`` would write it: streamed through, file by file, with the caller's
own token. Nothing is kept on this machine, and the platform never sees the token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from quantry.client import Client
from quantry.errors import ExportRefused
from quantry.hub import HubFile, HubRefused, HubRepository, LargeFile, Upload
from quantry.messages import Progress
from quantry_core.checkpoints import CARD_PATH
from quantry_core.versions import VersionDetail, VersionState

MAX_SMALL_BYTES = 5 * 1024**2
"""A larger file goes by git LFS whatever the hub says of it: it would not be taken otherwise."""
SAMPLE_BYTES = 512
_WEIGHTS = (".safetensors", ".safetensors.index.json", ".gguf", ".bin", ".bin.index.json")


class Pushed(NamedTuple):
    """What is on the hub now."""

    url: str
    revision: str
    commit: str
    is_new: bool
    """The repository was made."""
    files: Sequence[str]
    num_reused: int
    """Large files that the hub had already."""
    removed: Sequence[str]
    """Weights of what lay there before, which a reader could have taken for this version's."""


def push_version(client: Client, ref: str, hub: HubRepository, *, is_private: bool, progress: Progress = lambda _num_bytes: None) -> Pushed:
    """Pushes a ready version with its model card and returns what is there afterwards, every file's digest compared with the manifest.

    The commit is made when every byte is there: one that breaks off changes nothing, and what has arrived is not sent again.
    Raises ExportRefused for a version that is not ready; HubRefused, HubUnreachable; DownloadDamaged, ApiError, ServerUnreachable.
    """
    version = client.versions.get(ref)
    if version.state is not VersionState.READY:
        raise ExportRefused(f"version {version.ref} is {version.state}; only a ready version is pushed")
    is_new = hub.create(is_private=is_private)
    reader = _Reader(client, version, progress)
    reader.read_small()
    large_paths = {path for path in hub.large_of(reader.samples) if reader.samples[path][0] > 0}
    large = [
        LargeFile(file.path, file.size_bytes, file.sha256)
        for file in version.files
        if file.path in large_paths or file.path not in reader.small
    ]
    before = [] if is_new else hub.files()
    num_reused = _send_large(reader, hub, large)
    kept = {path: content for path, content in reader.small.items() if path not in {file.path for file in large}}
    removed = _stale_weights(before, {*kept, *(file.path for file in large)})
    commit = hub.commit(f"{version.ref} of Quantry, {version.manifest_digest[:12]}", small=kept, large=large, removed=removed)
    _check(hub.files(commit), kept, large, removed)
    return Pushed(hub.url, hub.revision, commit, is_new, sorted([*kept, *(file.path for file in large)]), num_reused, removed)


class _Reader:
    """The files of one version. Small ones are read once and kept, large ones streamed when they are needed."""

    def __init__(self, client: Client, version: VersionDetail, progress: Progress) -> None:
        self._client = client
        self._version = version
        self._progress = progress
        self.small: dict[str, bytes] = {}
        """By path, the model card among them."""
        self.samples: dict[str, tuple[int, bytes]] = {}
        """Of every file its size and first bytes."""

    def read_small(self) -> None:
        """Reads what is small, and the beginning of what is not."""
        for file in self._version.files:
            with self._client.versions.file(self._version.id, file.path) as content:
                if file.size_bytes > MAX_SMALL_BYTES:
                    self.samples[file.path] = (file.size_bytes, next(iter(content.pieces), b"")[:SAMPLE_BYTES])
                else:
                    self.small[file.path] = b"".join(content.pieces)
                    self._progress(file.size_bytes)
        if CARD_PATH not in self.small:
            self.small[CARD_PATH] = self._client.versions.card(self._version.id).encode()
        self.samples |= {path: (len(content), content[:SAMPLE_BYTES]) for path, content in self.small.items()}

    def pass_over(self, file: LargeFile) -> None:
        """Counts a file that need not be sent."""
        if file.path not in self.small:
            self._progress(file.size_bytes)

    @contextmanager
    def pieces(self, file: LargeFile) -> Iterator[Iterator[bytes]]:
        """Yields the bytes of a file, checked at their end against its digest."""
        if file.path in self.small:
            yield iter([self.small[file.path]])
            return
        with self._client.versions.file(self._version.id, file.path) as content:
            yield self._counted(content.pieces)

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            self._progress(len(piece))
            yield piece


def _send_large(reader: _Reader, hub: HubRepository, large: Sequence[LargeFile]) -> int:
    """Sends what the hub does not have; returns how many of the large files it had already."""
    wanted = hub.uploads(large) if large else {}
    num_reused = 0
    for file in large:
        # Equal files are sent once.
        upload = wanted.pop(file.sha256, None)
        if upload is None:
            num_reused += 1
            reader.pass_over(file)
            continue
        with reader.pieces(file) as pieces:
            _send(hub, file, upload, pieces)
    return num_reused


def _send(hub: HubRepository, file: LargeFile, upload: Upload, pieces: Iterator[bytes]) -> None:
    if not upload.part_urls:
        hub.put(upload.href, pieces, file.size_bytes)
        hub.finish(file, upload, [])
        return
    parts = _Parts(pieces)
    etags: list[str] = []
    remaining_bytes = file.size_bytes
    for url in upload.part_urls:
        size_bytes = min(upload.part_bytes, remaining_bytes)
        etags.append(hub.put(url, parts.take(size_bytes), size_bytes))
        remaining_bytes -= size_bytes
    parts.end()
    hub.finish(file, upload, etags)


class _Parts:
    """Takes a stream of bytes apart at other places than it comes in."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._left = b""

    def take(self, size_bytes: int) -> Iterator[bytes]:
        """Yields the next bytes, as many as there are of ``size_bytes``."""
        while size_bytes > 0:
            piece = self._left or next(self._pieces, b"")
            if not piece:
                return
            taken, self._left = piece[:size_bytes], piece[size_bytes:]
            size_bytes -= len(taken)
            yield taken

    def end(self) -> None:
        """Reads to the end, where the digest of the whole is looked at."""
        for _ in self._pieces:
            pass


def _stale_weights(before: Sequence[HubFile], paths: Collection[str]) -> list[str]:
    """Returns weights that lie in the repository under names that this version does not have: beside its own, a reader might take them."""
    return sorted(file.path for file in before if file.path.endswith(_WEIGHTS) and "/" not in file.path and file.path not in paths)


def _check(listed: Sequence[HubFile], small: Mapping[str, bytes], large: Sequence[LargeFile], removed: Collection[str]) -> None:
    """Raises HubRefused naming the first file that the hub does not hold as it was sent, or still holds."""
    by_path = {file.path: file for file in listed}
    for file in large:
        found = by_path.get(file.path)
        if found is None or (found.size_bytes, found.sha256) != (file.size_bytes, file.sha256):
            raise HubRefused(f"{file.path} on the hub is not what was pushed: its SHA-256 should be {file.sha256}")
    for path, content in small.items():
        found = by_path.get(path)
        blob_id = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
        if found is None or (found.size_bytes, found.blob_id) != (len(content), blob_id):
            raise HubRefused(f"{path} on the hub is not what was pushed: its git digest should be {blob_id}")
    for path in removed:
        if path in by_path:
            raise HubRefused(f"{path} was to be removed from the hub and is there still")
