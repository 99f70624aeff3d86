"""Where backups lie: a folder, or a prefix of a bucket. Both hold the same names, so one can be copied to the other.

blobs/<first two characters>/<digest>     shared by all backups of the place: what one has, the next need not copy
backups/<id>/database.dump                pg_dump's custom format
backups/<id>/blobs.jsonl                  digest and size of every blob that belongs to it
backups/<id>/manifest.json                written last: a backup without one is not a backup
"""

from __future__ import annotations

import hashlib
import io
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from quantry_blobs.errors import DigestMismatch, UnknownBlob
from quantry_blobs.stores import ObjectStore, Stored
from quantry_core.errors import InvalidInput

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

COPY_BYTES = 1024**2
BUCKET_SCHEME = "s3://"
FILE_MODE, FOLDER_MODE = 0o600, 0o700
"""A backup holds everything that the platform knows."""


class Place(Protocol):
    """Holds files by name. Blocking, and safe to share between threads. A file appears whole or not at all.

    Raises OSError, StoreUnavailable or StoreRefused where the place cannot be used, UnknownBlob for a name it does not hold,
    and DigestMismatch where bytes are not what was expected.
    """

    def size(self, name: str) -> int | None:
        """Returns a file's size in bytes; None if there is none."""
        ...

    def read(self, name: str) -> bytes:
        """Returns a small file."""
        ...

    def digest(self, name: str) -> Stored:
        """Reads a file to its end and returns what it is."""
        ...

    def names(self, prefix: str) -> list[str]:
        """Returns the names that begin with ``prefix``, which ends with a slash."""
        ...

    def write(self, name: str, stream: BinaryIO) -> Stored:
        """Writes a stream to its end and returns what was read. Raises what the stream raises, and keeps nothing then."""
        ...

    def remove(self, name: str) -> None:
        """Removes a file; one that is not there is fine."""
        ...

    def take(self, name: str, store: ObjectStore, bucket: str, key: str, expected: Stored) -> None:
        """Copies an object into the place, if it is what is expected."""
        ...

    def give(self, name: str, store: ObjectStore, bucket: str, key: str, expected: Stored) -> None:
        """Copies a file to an object, if it is what is expected: else there is no object."""
        ...

    def local(self, name: str, expected: Stored) -> AbstractContextManager[Path]:
        """Yields a checked file as one of this machine's file system."""
        ...


class Expecting(io.RawIOBase):
    """A stream that ends with DigestMismatch where it was not what is expected: whoever reads to the end knows."""

    def __init__(self, stream: BinaryIO, name: str, expected: Stored) -> None:
        self._stream = stream
        self._name = name
        self._expected = expected
        self._digest = hashlib.sha256()
        self._num_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        data = self._stream.read(len(target))
        target[: len(data)] = data
        self._digest.update(data)
        self._num_bytes += len(data)
        if not data:
            check(self._name, Stored(self._num_bytes, self._digest.hexdigest()), self._expected)
        return len(data)


def check(name: str, found: Stored, expected: Stored) -> None:
    """Raises DigestMismatch naming the file and both digests where they differ."""
    if found != expected:
        raise DigestMismatch(
            f"{name} has {found.size_bytes} bytes with SHA-256 {found.sha256}, expected {expected.size_bytes} bytes with {expected.sha256}"
        )


class FolderPlace:
    """A folder of this machine, its files for its owner alone."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def size(self, name: str) -> int | None:
        path = self.root / name
        return path.stat().st_size if path.is_file() else None

    def read(self, name: str) -> bytes:
        with self._open(name) as file:
            return file.read()

    def digest(self, name: str) -> Stored:
        with self._open(name) as file:
            digest = hashlib.file_digest(file, "sha256")
            return Stored(file.tell(), digest.hexdigest())

    def names(self, prefix: str) -> list[str]:
        folder = self.root / prefix
        return sorted(path.relative_to(self.root).as_posix() for path in folder.rglob("*") if path.is_file() and path.suffix != ".part")

    def write(self, name: str, stream: BinaryIO) -> Stored:
        digest = hashlib.sha256()
        num_bytes = 0
        with self._appearing(name) as part, part.open("wb") as file:
            while piece := stream.read(COPY_BYTES):
                file.write(piece)
                digest.update(piece)
                num_bytes += len(piece)
        return Stored(num_bytes, digest.hexdigest())

    def remove(self, name: str) -> None:
        path = self.root / name
        path.unlink(missing_ok=True)
        with suppress(OSError):
            # Only where nothing else lies in it.
            path.parent.rmdir()

    def take(self, name: str, store: ObjectStore, bucket: str, key: str, expected: Stored) -> None:
        with self._appearing(name) as part:
            store.get_file(bucket, key, part, expected=expected)

    def give(self, name: str, store: ObjectStore, bucket: str, key: str, expected: Stored) -> None:
        with self._open(name) as file:
            store.put_stream(bucket, key, io.BufferedReader(Expecting(file, name, expected), COPY_BYTES), max_bytes=expected.size_bytes)

    @contextmanager
    def local(self, name: str, expected: Stored) -> Iterator[Path]:
        check(name, self.digest(name), expected)
        yield self.root / name

    def _open(self, name: str) -> io.BufferedReader:
        try:
            return (self.root / name).open("rb")
        except FileNotFoundError:
            raise UnknownBlob(f"there is no {name} in {self.root}") from None

    @contextmanager
    def _appearing(self, name: str) -> Iterator[Path]:
        """Yields a path to write to, which becomes the file when the block ends well. It is on the disk before it has its name, so
        that a manifest never outlives, of a host that lost its power, what it names."""
        path = self.root / name
        self.root.parent.mkdir(parents=True, exist_ok=True)
        for folder in reversed(Path(name).parents):
            (self.root / folder).mkdir(mode=FOLDER_MODE, exist_ok=True)
        part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        try:
            part.touch(mode=FILE_MODE)
            yield part
            part.chmod(FILE_MODE)
            _to_disk(part)
            part.replace(path)
            _to_disk(path.parent)
        finally:
            part.unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Waits until a file's bytes, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class BucketPlace:
    """A prefix of a bucket."""

    def __init__(self, store: ObjectStore, bucket: str, prefix: str) -> None:
        self._store = store
        self.bucket = bucket
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def __str__(self) -> str:
        return f"{BUCKET_SCHEME}{self.bucket}/{self._prefix}"

    def size(self, name: str) -> int | None:
        return self._store.stat(self.bucket, self._key(name))

    def read(self, name: str) -> bytes:
        with self._stream(name) as stream:
            return stream.read()

    def digest(self, name: str) -> Stored:
        return self._store.sha256(self.bucket, self._key(name))

    def names(self, prefix: str) -> list[str]:
        return sorted(key.removeprefix(self._prefix) for key in self._store.list(self.bucket, self._key(prefix)))

    def write(self, name: str, stream: BinaryIO) -> Stored:
        return self._store.put_stream(self.bucket, self._key(name), stream)

    def remove(self, name: str) -> None:
        self._store.delete(self.bucket, self._key(name))

    def take(self, name: str, store: ObjectStore, bucket: str, key: str, expected: Stored) -> None:
        _pipe(Object(store, bucket, key), Object(self._store, self.bucket, self._key(name)), expected)

    def give(self, name: str, store: ObjectStore, bucket: str, key: str, expected: Stored) -> None:
        _pipe(Object(self._store, self.bucket, self._key(name)), Object(store, bucket, key), expected)

    @contextmanager
    def local(self, name: str, expected: Stored) -> Iterator[Path]:
        folder = Path(tempfile.mkdtemp(prefix="quantry-backup-"))
        try:
            self._store.get_file(self.bucket, self._key(name), folder / "file", expected=expected)
            yield folder / "file"
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _key(self, name: str) -> str:
        return f"{self._prefix}{name}"

    def _stream(self, name: str) -> AbstractContextManager[BinaryIO]:
        return nullcontext(Object(self._store, self.bucket, self._key(name)).stream())


def place_of(where: str, store: Callable[[], ObjectStore]) -> Place:
    """Returns the place that ``where`` names: ``s3://bucket/prefix`` on the server that ``store`` connects to, or else a folder.

    Raises InvalidInput for an address that is neither.
    """
    if where.startswith(BUCKET_SCHEME):
        bucket, _, prefix = where.removeprefix(BUCKET_SCHEME).partition("/")
        if not bucket:
            raise InvalidInput(f"{where!r} names no bucket: write s3://bucket/prefix")
        return BucketPlace(store(), bucket, prefix)
    if "://" in where:
        raise InvalidInput(f"{where!r} is neither a folder nor s3://bucket/prefix")
    return FolderPlace(Path(where).expanduser().absolute())


class _Chunks(io.RawIOBase):
    """An object as a stream."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        target = memoryview(buffer).cast("B")
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = chunk
        data, self._rest = self._rest[: len(target)], self._rest[len(target) :]
        target[: len(data)] = data
        return len(data)


class Object(NamedTuple):
    """An object of a server."""

    store: ObjectStore
    bucket: str
    key: str

    def stream(self) -> io.BufferedReader:
        """Returns its bytes; raises UnknownBlob where there is none."""
        size_bytes = self.store.stat(self.bucket, self.key)
        if size_bytes is None:
            raise UnknownBlob(f"there is no {self.bucket}/{self.key}")
        return io.BufferedReader(_Chunks(self.store.open_range(self.bucket, self.key, 0, size_bytes)), COPY_BYTES)


def _pipe(source: Object, target: Object, expected: Stored) -> None:
    """Copies an object between two servers: it appears only where what was read is what is expected."""
    with source.stream() as stream:
        checked = io.BufferedReader(Expecting(stream, f"{source.bucket}/{source.key}", expected), COPY_BYTES)
        target.store.put_stream(target.bucket, target.key, checked, max_bytes=expected.size_bytes)
