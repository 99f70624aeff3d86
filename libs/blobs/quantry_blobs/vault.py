"""Staging, where attempts put what they made, and the vault, where bytes lie under their digest for good."""

from __future__ import annotations

import io
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
from uuid import UUID

from quantry_blobs.errors import DigestMismatch, OtherBytes, StoreUnavailable, UnknownBlob
from quantry_blobs.key_locks import KeyLocks
from quantry_blobs.protection import UNPROTECTED
from quantry_blobs.stores import Entry, ObjectStore, Stored
from quantry_core.errors import SealRefused
from quantry_core.ids import uuid7
from quantry_core.vault import CHECKPOINTS_FOLDER, artifact_key, checkpoint_key
from quantry_core.versions import ManifestFile, blob_key, staging_key

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

INCOMING_PREFIX = "incoming/"
BLOB_PREFIX = blob_key("")
NUM_DIGEST_CHARS = 64
DAMAGED_PREFIX = "damaged/"
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

    def put_artifact(self, job_id: str, attempt: int, path: str, file: Path) -> ManifestFile:
        """Uploads a file that is kept beside the job's version, under a folder that no version's file can lie in."""
        stored = self._store.put_file(self.bucket, artifact_key(job_id, attempt, path), file)
        return ManifestFile(path=path, size_bytes=stored.size_bytes, sha256=stored.sha256)

    def put_checkpoint(self, job_id: str, attempt: int, step: int, path: str, file: Path) -> ManifestFile:
        """Uploads a file of a training job's checkpoint."""
        stored = self._store.put_file(self.bucket, checkpoint_key(job_id, attempt, step, path), file)
        return ManifestFile(path=path, size_bytes=stored.size_bytes, sha256=stored.sha256)

    def remove_checkpoints(self, job_id: str, attempt: int) -> int:
        """Removes every checkpoint that an attempt staged; returns the number of objects. An attempt may stage hundreds."""
        return self._remove(staging_key(job_id, attempt, f"{CHECKPOINTS_FOLDER}/"))

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
        return self._remove(staging_key(job_id, attempt, ""))

    def _remove(self, prefix: str) -> int:
        keys = list(self._store.list(self.bucket, prefix))
        for key in keys:
            self._store.delete(self.bucket, key)
        return len(keys)


class SetAside(NamedTuple):
    """What became of a blob that was to be taken out of its key."""

    found: str | None
    """What was wrong with it in the end; None where it is right, and was left where it is."""
    kept_at: str | None
    """The key where the object is kept now, below ``damaged/``; None where there was none to move."""


class Vault:
    """The content-addressed bucket. Its key of a blob is ``sha256/<digest>``; only the registry writes it, never over a key.

    Bytes whose digest is known beforehand are hashed while they are copied to their key, in one pass through this process:
    what was hashed is what lies there, whoever writes the source meanwhile, and a key appears only where the digest was right.
    Others come in under ``incoming/<uuid>``, and the server copies them to their key once they are hashed, up to
    ``max_copy_bytes``; larger ones are streamed.
    """

    def __init__(self, store: ObjectStore, bucket: str, max_copy_bytes: int = MAX_COPY_BYTES) -> None:
        self._store = store
        self.bucket = bucket
        self._max_copy_bytes = max_copy_bytes
        # rclone's S3 server replaces an object by delete and rename: two writers of one key at once can lose it.
        self._keys = KeyLocks()
        self._coming_in: set[str] = set()
        """Keys under ``incoming/`` that a stream of this process has not got its own key from yet."""
        self.protection = UNPROTECTED
        self.retention_s: float | None = None

    def protect(self, retention_s: float) -> None:
        """Finds out what the bucket protects its objects from. From here on every blob that is taken in, or taken in again, is
        kept from removal for ``retention_s`` seconds, if the bucket was made with object lock; but for ``seal_removable``.
        """
        self.protection = self._store.protect(self.bucket)
        self.retention_s = retention_s if self.protection.object_lock else None

    def contains(self, sha256: str, size_bytes: int) -> bool:
        """Tells whether the vault holds these bytes."""
        return self._store.stat(self.bucket, blob_key(sha256)) == size_bytes

    def seal(self, staging_bucket: str, key: str, declared: ManifestFile) -> bool:
        """Moves a staged object into the vault; returns False if the vault held these bytes already.

        Raises SealRefused where the object is missing or is not what was declared; the vault is then unchanged.
        """
        with self._keys.hold(declared.sha256):
            is_new = self._take_in(staging_bucket, key, declared)
            self._retain(Stored(declared.size_bytes, declared.sha256))
        return is_new

    def seal_removable(self, staging_bucket: str, key: str, declared: ManifestFile) -> bool:
        """Does as ``seal``, but keeps nobody from removing the blob again: for bytes that are needed for hours."""
        with self._keys.hold(declared.sha256):
            return self._take_in(staging_bucket, key, declared)

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

    def check(self, sha256: str, size_bytes: int) -> str | None:
        """Hashes a blob again; returns what is wrong with it in words, None where it is right.

        A damage is believed only when two readings agree on it: one wrong reading may be the network's or this machine's.
        """
        first = self._differs(sha256, size_bytes)
        return None if first is None else self._differs(sha256, size_bytes)

    def set_aside(self, sha256: str, size_bytes: int) -> SetAside:
        """Moves a damaged blob out of its key, so that nobody is served it and the right bytes can take the key again.

        It is looked at once more: the right bytes may have come since. While this lasts nobody of this process writes the key;
        that no other process takes the damaged object for a blob is the caller's business, who holds the blob's row.
        """
        key, kept = blob_key(sha256), f"{DAMAGED_PREFIX}{sha256}/{uuid7().hex}"
        with self._keys.hold(sha256):
            found = self.check(sha256, size_bytes)
            lying_bytes = None if found is None else self._store.stat(self.bucket, key)
            if lying_bytes is None:
                return SetAside(found, None)
            self._copy(key, kept, lying_bytes)
            self._store.delete(self.bucket, key)
        return SetAside(found, kept)

    def blobs(self) -> Iterator[tuple[str, Entry]]:
        """Yields the digest and the object of everything that lies under the key of a digest, known to the database or not."""
        for entry in self._store.entries(self.bucket, BLOB_PREFIX):
            digest = entry.key.removeprefix(BLOB_PREFIX)
            if len(digest) == NUM_DIGEST_CHARS:
                yield digest, entry

    def remove(self, sha256: str, begin_by_s: float) -> bool:
        """Removes a blob with one request; returns False, and removes nothing, where this process is just using its key, or
        where ``time.monotonic()`` is past ``begin_by_s`` before the request could begin.

        Only for whoever has made sure that nobody refers to it, nor can until this returns: which is what ``begin_by_s`` and
        the request's own limit (REMOVAL_TIMEOUT_S, without a second try) are for. Raises StoreUnavailable.
        """
        with self._keys.hold_if_free(sha256) as is_held:
            if not is_held or time.monotonic() > begin_by_s:
                return False
            self._store.delete_once(self.bucket, blob_key(sha256))
        return True

    def leftovers(self, older_than_s: float, now_unix_s: float | None = None) -> list[str]:
        """Returns the keys that a process left under ``incoming/`` when it died: written so long ago, by the store's clock, and
        of no stream of this process. Others' processes are told from dead ones by that time alone.
        """
        longest_ago_s = (time.time() if now_unix_s is None else now_unix_s) - older_than_s
        return [
            entry.key
            for entry in self._store.entries(self.bucket, INCOMING_PREFIX)
            # Nothing of ours has a key that is no UUID, and nothing of others is ours to remove.
            if entry.modified_unix_s < longest_ago_s and entry.key not in self._coming_in and _is_incoming(entry.key)
        ]

    def sweep_incoming(self, older_than_s: float, now_unix_s: float | None = None) -> int:
        """Removes what a process left under ``incoming/`` when it died; returns the number of objects."""
        keys = self.leftovers(older_than_s, now_unix_s)
        for key in keys:
            self._store.delete(self.bucket, key)
        return len(keys)

    @contextmanager
    def _incoming(self) -> Iterator[str]:
        key = f"{INCOMING_PREFIX}{uuid7().hex}"
        self._coming_in.add(key)
        try:
            yield key
        finally:
            # If the store is away now, the sweep removes it later; the first error is the one to tell.
            with suppress(StoreUnavailable):
                self._store.delete(self.bucket, key)
            self._coming_in.discard(key)

    def _settle(self, incoming: str, stored: Stored) -> None:
        """Gives hashed bytes their key, unless it is taken already: by the same bytes, or something is badly wrong."""
        with self._keys.hold(stored.sha256):
            if self._holds(stored):
                self._retain(stored)
                return
            key = blob_key(stored.sha256)
            if stored.size_bytes <= self._max_copy_bytes:
                self._store.copy(self.bucket, incoming, self.bucket, key)
            else:
                self._store.copy_checked(self.bucket, incoming, self.bucket, key, stored)
            if self._store.stat(self.bucket, key) != stored.size_bytes:
                raise DigestMismatch(f"the object store did not keep {key} as it was copied")
            self._retain(stored)

    def _take_in(self, staging_bucket: str, key: str, declared: ManifestFile) -> bool:
        """Copies a staged object to its key, which is held; returns False if the vault held these bytes already."""
        wanted = Stored(declared.size_bytes, declared.sha256)
        if self._holds(wanted):
            return False
        try:
            self._store.copy_checked(staging_bucket, key, self.bucket, blob_key(wanted.sha256), wanted)
        except OtherBytes as error:
            raise SealRefused(
                f"{declared.path} was declared with {wanted.size_bytes} bytes and SHA-256 {wanted.sha256}, "
                f"but {error.found.size_bytes} bytes with {error.found.sha256} are staged"
            ) from error
        except UnknownBlob:
            raise SealRefused(f"{declared.path} is not in staging; upload every file before the seal") from None
        return True

    def _retain(self, stored: Stored) -> None:
        if self.retention_s is not None:
            self._store.retain(self.bucket, blob_key(stored.sha256), self.retention_s)

    def _holds(self, wanted: Stored) -> bool:
        """Tells whether a key is taken by these bytes; raises DigestMismatch if it is taken by others."""
        key = blob_key(wanted.sha256)
        size_bytes = self._store.stat(self.bucket, key)
        if size_bytes not in {None, wanted.size_bytes}:
            raise DigestMismatch(
                f"the vault's {key} has {size_bytes} bytes, not {wanted.size_bytes}: it is damaged, verify the vault first"
            )
        return size_bytes is not None

    def _copy(self, key: str, to_key: str, size_bytes: int) -> None:
        if size_bytes <= self._max_copy_bytes:
            self._store.copy(self.bucket, key, self.bucket, to_key)
            return
        with closing(self._store.open_range(self.bucket, key, 0, size_bytes)) as chunks:
            self._store.put_stream(self.bucket, to_key, _stream(chunks), max_bytes=size_bytes)

    def _differs(self, sha256: str, size_bytes: int) -> str | None:
        try:
            found = self._store.sha256(self.bucket, blob_key(sha256))
        except UnknownBlob:
            return "missing"
        return None if found == Stored(size_bytes, sha256) else f"{found.size_bytes} bytes with SHA-256 {found.sha256}"


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


def _is_incoming(key: str) -> bool:
    """Tells whether a key under ``incoming/`` is one that the vault gave."""
    try:
        UUID(hex=key.removeprefix(INCOMING_PREFIX))
    except ValueError:
        return False
    return True
