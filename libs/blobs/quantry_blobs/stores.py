"""The one small protocol in front of an S3 server. Everything above it speaks in buckets, keys, sizes and digests."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from quantry_blobs.protection import Protection

REMOVAL_TIMEOUT_S = 10.0
"""For how long ``delete_once`` waits for a connection and for the answer, each."""


@dataclass(frozen=True)
class Stored:
    """What an object's bytes are: their number, and their SHA-256 in lower-case hex."""

    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """An object of a listing."""

    key: str
    size_bytes: int
    modified_unix_s: float
    """By the server's clock."""


class ObjectStore(Protocol):
    """An S3 server. Blocking: asynchronous callers go through ``asyncio.to_thread``. Safe to share between threads.

    Every method raises StoreUnavailable when the server is away, StoreRefused when it refuses key or bucket, and
    UnknownBlob where an object is read that is not there. An object appears whole or not at all. What two writers of
    one key at once leave is not promised (rclone's server may lose it): a caller writes a key once, or holds a lock.
    """

    def ensure_bucket(self, bucket: str) -> None:
        """Makes the bucket if it is not there yet."""
        ...

    def put_file(self, bucket: str, key: str, path: Path) -> Stored:
        """Uploads a file in parallel parts and returns what was read from it, hashed on the way."""
        ...

    def put_stream(self, bucket: str, key: str, stream: BinaryIO, max_bytes: int | None = None) -> Stored:
        """Uploads a stream to its end in parallel parts and returns what was read, hashed on the way.

        Raises TooLarge past ``max_bytes``, and whatever the stream raises; the key is then what it was before.
        """
        ...

    def get_file(self, bucket: str, key: str, path: Path, *, expected: Stored) -> None:
        """Downloads an object in parallel parts to ``path`` (mode 0644), which appears only when its digest is right.

        Raises DigestMismatch where size or digest differ. Whatever goes wrong, no partial file stays.
        """
        ...

    def open_range(self, bucket: str, key: str, start: int, length: int) -> Generator[bytes, None, None]:
        """Yields ``length`` bytes of an object from ``start`` in chunks; fewer only where the object ends. Close it if you stop early."""
        ...

    def read(self, bucket: str, key: str, start: int, length: int) -> bytes:
        """Returns ``length`` bytes of an object from ``start``; fewer only where the object ends."""
        ...

    def stat(self, bucket: str, key: str) -> int | None:
        """Returns an object's size in bytes; None if there is none."""
        ...

    def copy(self, bucket: str, key: str, to_bucket: str, to_key: str) -> None:
        """Copies an object inside the server."""
        ...

    def copy_checked(self, bucket: str, key: str, to_bucket: str, to_key: str, expected: Stored) -> None:
        """Copies an object through this process: what was hashed is what was written, whoever writes the source meanwhile.

        Raises OtherBytes where it is not what is expected; ``to_key`` is then what it was before.
        """
        ...

    def delete(self, bucket: str, key: str) -> None:
        """Removes an object; one that is not there is fine."""
        ...

    def delete_once(self, bucket: str, key: str) -> None:
        """Removes an object as ``delete`` does, with one request that is not tried again and waits REMOVAL_TIMEOUT_S at most."""
        ...

    def list(self, bucket: str, prefix: str) -> Iterator[str]:
        """Yields the keys that begin with ``prefix``."""
        ...

    def entries(self, bucket: str, prefix: str) -> Iterator[Entry]:
        """Yields what lies under keys that begin with ``prefix``, by key."""
        ...

    def sha256(self, bucket: str, key: str) -> Stored:
        """Reads an object to its end and returns what it is."""
        ...

    def protect(self, bucket: str) -> Protection:
        """Turns versioning on where the server really has it, and returns what the bucket was found to do when it was tried."""
        ...

    def retain(self, bucket: str, key: str, seconds: float) -> None:
        """Keeps an object's bytes from being removed for so long; only where ``protect`` found the lock."""
        ...
