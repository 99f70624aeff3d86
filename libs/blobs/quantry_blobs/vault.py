"""Staging, where attempts put what they made, and the vault, where bytes lie under their digest for good."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO
from uuid import UUID

from quantry_blobs.errors import DigestMismatch, StoreUnavailable, UnknownBlob
from quantry_blobs.stores import ObjectStore, Stored
from quantry_core.errors import SealRefused
from quantry_core.ids import uuid7
from quantry_core.versions import ManifestFile, blob_key, staging_key

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

INCOMING_PREFIX = "incoming/"
NUM_LOCKS = 64
MAX_COPY_BYTES = 5 * 1024**3
"""S3's own limit for a copy in one request. A copy in parts is more than rclone's server can do."""

STREAM_BYTES = 1024**2


class Staging:
    """The bucket that workers write: ``<job>/<attempt>/<path>``."""

    def __init__(self, store: ObjectStore, bucket: str) -> None:
        self._store = store
        self.bucket = bucket

    def put(self, job_id: str, attempt: int, path: str, file: Path) -> ManifestFile:
        """Uploads a file and returns its manifest entry, hashed from the bytes that were sent."""
        stored = self._store.put_file(self.bucket, staging_key(job_id, attempt, path), file)
        return ManifestFile(path=path, size_bytes=stored.size_bytes, sha256=stored.sha256)

    def attempts(self) -> set[tuple[str, int]]:
        """Returns job id and attempt number of everything that is staged; keys of another form are left out."""
        found: set[tuple[str, int]] = set()
        for key in self._store.list(self.bucket, ""):
            job_id, _, rest = key.partition("/")
            attempt, slash, _ = rest.partition("/")
            if slash and attempt.isascii() and attempt.isdigit():
                found.add((job_id, int(attempt)))
        return found

    def remove_attempt(self, job_id: str, attempt: int) -> int:
        """Removes everything an attempt staged; returns the number of objects."""
        keys = list(self._store.list(self.bucket, staging_key(job_id, attempt, "")))
        for key in keys:
            self._store.delete(self.bucket, key)
        return len(keys)


class Vault:
    """The content-addressed bucket. Its key of a blob is ``sha256/<digest>``; only the registry writes it, never over a key.

    Bytes come in under ``incoming/<uuid>``, where no worker can touch them, are hashed there, and only then get their key.
    The server copies them itself, up to ``max_copy_bytes``; larger objects are streamed through this process.
    """

    def __init__(self, store: ObjectStore, bucket: str, max_copy_bytes: int = MAX_COPY_BYTES) -> None:
        self._store = store
        self.bucket = bucket
        self._max_copy_bytes = max_copy_bytes
        # rclone's S3 server replaces an object by delete and rename: two writers of one key at once can lose it.
        self._locks = [Lock() for _ in range(NUM_LOCKS)]

    def contains(self, sha256: str, size_bytes: int) -> bool:
        """Tells whether the vault holds these bytes."""
        return self._store.stat(self.bucket, blob_key(sha256)) == size_bytes

    def seal(self, staging_bucket: str, key: str, declared: ManifestFile) -> bool:
        """Moves a staged object into the vault; returns False if the vault held these bytes already.

        Raises SealRefused where the object is missing or is not what was declared; the vault is then unchanged.
        """
        if self.contains(declared.sha256, declared.size_bytes):
            return False
        with self._incoming() as incoming:
            try:
                found = self._take_in(staging_bucket, key, incoming)
            except UnknownBlob:
                raise SealRefused(f"{declared.path} is not in staging; upload every file before the seal") from None
            if found != Stored(declared.size_bytes, declared.sha256):
                raise SealRefused(
                    f"{declared.path} was declared with {declared.size_bytes} bytes and SHA-256 {declared.sha256}, "
                    f"but {found.size_bytes} bytes with {found.sha256} are staged"
                )
            self._settle(incoming, found)
        return True

    def put_stream(self, stream: BinaryIO, max_bytes: int | None = None) -> Stored:
        """Takes a stream in and returns what it was. Raises TooLarge past ``max_bytes``; the vault is then unchanged."""
        with self._incoming() as incoming:
            stored = self._store.put_stream(self.bucket, incoming, stream, max_bytes)
            self._settle(incoming, stored)
        return stored

    def fetch(self, file: ManifestFile, to: Path) -> None:
        """Downloads a file of a version to ``to`` (mode 0644); raises DigestMismatch and keeps nothing if it is not that file."""
        self._store.get_file(self.bucket, blob_key(file.sha256), to, expected=Stored(file.size_bytes, file.sha256))

    def open_range(self, sha256: str, start: int, length: int) -> Generator[bytes, None, None]:
        """Yields bytes of a blob in chunks."""
        return self._store.open_range(self.bucket, blob_key(sha256), start, length)

    def read(self, sha256: str, start: int, length: int) -> bytes:
        """Returns bytes of a blob."""
        return self._store.read(self.bucket, blob_key(sha256), start, length)

    def sweep_incoming(self, older_than_s: float, now_unix_s: float | None = None) -> int:
        """Removes what a process left under ``incoming/`` when it died; returns the number of objects.

        The age is read from the key: it is a UUIDv7.
        """
        now_ms = (time.time() if now_unix_s is None else now_unix_s) * 1000
        num_removed = 0
        for key in list(self._store.list(self.bucket, INCOMING_PREFIX)):
            created_ms = _created_ms(key.removeprefix(INCOMING_PREFIX))
            if created_ms is None:
                # Nothing of ours has such a key, and nothing of others is ours to remove.
                continue
            if now_ms - created_ms > older_than_s * 1000:
                self._store.delete(self.bucket, key)
                num_removed += 1
        return num_removed

    @contextmanager
    def _incoming(self) -> Iterator[str]:
        key = f"{INCOMING_PREFIX}{uuid7().hex}"
        try:
            yield key
        finally:
            # If the store is away now, the sweep removes it later; the first error is the one to tell.
            with suppress(StoreUnavailable):
                self._store.delete(self.bucket, key)

    def _take_in(self, bucket: str, key: str, incoming: str) -> Stored:
        """Copies an object to ``incoming`` and returns what arrived; raises UnknownBlob if there is none."""
        size_bytes = self._store.stat(bucket, key)
        if size_bytes is None:
            raise UnknownBlob(f"there is no {bucket}/{key}")
        if size_bytes <= self._max_copy_bytes:
            self._store.copy(bucket, key, self.bucket, incoming)
            return self._store.sha256(self.bucket, incoming)
        with closing(self._store.open_range(bucket, key, 0, size_bytes)) as chunks:
            return self._store.put_stream(self.bucket, incoming, _stream(chunks), max_bytes=size_bytes)

    def _settle(self, incoming: str, stored: Stored) -> None:
        """Gives hashed bytes their key, unless it is taken already: by the same bytes, or something is badly wrong."""
        key = blob_key(stored.sha256)
        with self._locks[int(stored.sha256[:8], 16) % NUM_LOCKS]:
            if self._store.stat(self.bucket, key) is None:
                self._place(incoming, key, stored)
            size_bytes = self._store.stat(self.bucket, key)
        if size_bytes != stored.size_bytes:
            raise DigestMismatch(f"the vault's {key} has {size_bytes} bytes, not {stored.size_bytes}: it is damaged, restore it first")

    def _place(self, incoming: str, key: str, stored: Stored) -> None:
        """Copies hashed bytes to their key."""
        if stored.size_bytes <= self._max_copy_bytes:
            self._store.copy(self.bucket, incoming, self.bucket, key)
            return
        with closing(self._store.open_range(self.bucket, incoming, 0, stored.size_bytes)) as chunks:
            # The key appears at the end of the stream, which is only reached by the right bytes.
            self._store.put_stream(self.bucket, key, _stream(_checked(chunks, stored)), max_bytes=stored.size_bytes)


class VaultCheckpoint:
    """A version's files as a ``CheckpointReader``, read from the vault."""

    def __init__(self, vault: Vault, files: Sequence[ManifestFile]) -> None:
        self._vault = vault
        self._files = {file.path: file for file in files}

    def files(self) -> Mapping[str, int]:
        return {path: file.size_bytes for path, file in self._files.items()}

    def read(self, path: str, start: int, length: int) -> bytes:
        return self._vault.read(self._files[path].sha256, start, length)


class _ChunkReader(io.RawIOBase):
    """Chunks as a raw stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk)
        target = memoryview(buffer).cast("B")
        num_bytes = min(len(target), len(self._rest))
        target[:num_bytes], self._rest = self._rest[:num_bytes], self._rest[num_bytes:]
        return num_bytes


def _stream(chunks: Iterator[bytes]) -> BinaryIO:
    """Returns chunks as a stream, of which a read is short only at the end."""
    return io.BufferedReader(_ChunkReader(chunks), STREAM_BYTES)


def _checked(chunks: Iterator[bytes], expected: Stored) -> Iterator[bytes]:
    """Yields the chunks on; raises DigestMismatch at their end if they were not what is expected."""
    digest = hashlib.sha256()
    num_bytes = 0
    for chunk in chunks:
        digest.update(chunk)
        num_bytes += len(chunk)
        yield chunk
    if (found := Stored(num_bytes, digest.hexdigest())) != expected:
        raise DigestMismatch(
            f"{found.size_bytes} bytes with SHA-256 {found.sha256} were read back, not the {expected.size_bytes} that were hashed"
        )


def _created_ms(uuid7_hex: str) -> int | None:
    """Returns the Unix time in milliseconds that a UUIDv7 begins with; None if this is no UUID."""
    try:
        return UUID(hex=uuid7_hex).int >> 80
    except ValueError:
        return None
