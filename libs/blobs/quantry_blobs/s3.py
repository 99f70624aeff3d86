"""ObjectStore over minio-py. Only this module and its client import it."""

from __future__ import annotations

import hashlib
import os
import secrets
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from math import ceil
from pathlib import Path
from typing import BinaryIO

import certifi
import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.datatypes import Part
from minio.error import MinioException, S3Error
from urllib3.exceptions import HTTPError

from quantry_blobs.client import UNHASHED_BODY, StorePool, TimeRefused, connect
from quantry_blobs.clock import StoreClock
from quantry_blobs.errors import DigestMismatch, OtherBytes, StoreRefused, StoreUnavailable, UnknownBlob
from quantry_blobs.protection import Protection, find_protection, retain
from quantry_blobs.settings import BlobSettings
from quantry_blobs.stores import REMOVAL_TIMEOUT_S, Entry, Stored
from quantry_core.errors import QuantryError, TooLarge

CHUNK_BYTES = 1024**2
MAX_PARTS = 10_000
CONTENT_TYPE = "application/octet-stream"
FETCHED_MODE = 0o644
"""Readable by the engine's user, whatever the mode of the file that was uploaded."""

_MISSING_CODES = {"NoSuchKey", "NoSuchObject", "NoSuchVersion"}
_REFUSED_CODES = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket", "AuthorizationHeaderMalformed"}


class MinioStore:
    """An S3 server, reached with minio-py, whatever this machine's clock (``now_unix_s``) says."""

    def __init__(self, settings: BlobSettings, now_unix_s: Callable[[], float] = time.time) -> None:
        self._endpoint = settings.endpoint
        self._part_bytes = settings.part_bytes
        self._num_parallel_parts = settings.num_parallel_parts
        # One connection for every part of a few transfers at once; more are opened and dropped again.
        self._pool = _pool(
            urllib3.Timeout(connect=settings.connect_timeout_s, read=settings.read_timeout_s),
            urllib3.Retry(total=settings.num_retries, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
            maxsize=4 * settings.num_parallel_parts,
        )
        self._impatient_pool = _pool(urllib3.Timeout(connect=REMOVAL_TIMEOUT_S, read=REMOVAL_TIMEOUT_S), urllib3.Retry(0), maxsize=1)
        clock = StoreClock(now_unix_s)
        self._client = connect(settings, self._pool, clock)
        self._impatient_client = connect(settings, self._impatient_pool, clock)

    def close(self) -> None:
        """Drops the connections."""
        self._pool.clear()
        self._impatient_pool.clear()

    def ensure_bucket(self, bucket: str) -> None:
        with self._errors(bucket):
            if self._client.bucket_exists(bucket):
                return
            try:
                self._client.make_bucket(bucket)
            except S3Error as error:
                # Another process was quicker.
                if error.code not in {"BucketAlreadyOwnedByYou", "BucketAlreadyExists"}:
                    raise

    def put_file(self, bucket: str, key: str, path: Path) -> Stored:
        with path.open("rb") as stream:
            # Whatever a file goes to re-hashes it: the seal. Hashing every part for its signature too costs a quarter of the time.
            reader = _HashingReader(stream, None)
            self._put(bucket, key, _parts_of(reader, self._part_size(path.stat().st_size)), UNHASHED_BODY)
        return reader.stored()

    def put_stream(self, bucket: str, key: str, stream: BinaryIO, max_bytes: int | None = None) -> Stored:
        reader = _HashingReader(stream, max_bytes)
        self._put(bucket, key, _parts_of(reader, self._part_size(max_bytes or 0)), {})
        return reader.stored()

    def get_file(self, bucket: str, key: str, path: Path, *, expected: Stored) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes may fetch the same file into one cache: each writes a part file of its own.
        part_path = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
        try:
            with part_path.open("w+b") as file:
                self._download(bucket, key, file.fileno(), expected)
                os.fchmod(file.fileno(), FETCHED_MODE)
                os.fsync(file.fileno())
            part_path.replace(path)
        finally:
            part_path.unlink(missing_ok=True)

    def open_range(self, bucket: str, key: str, start: int, length: int) -> Generator[bytes, None, None]:
        if length <= 0:
            # minio-py reads a length of 0 as "to the end".
            return
        with self._errors(f"{bucket}/{key}"):
            try:
                response = self._client.get_object(bucket, key, offset=start, length=length)
            except S3Error as error:
                if error.code == "InvalidRange":
                    return
                raise
            try:
                yield from response.stream(CHUNK_BYTES)
            finally:
                response.close()
                response.release_conn()

    def read(self, bucket: str, key: str, start: int, length: int) -> bytes:
        return b"".join(self.open_range(bucket, key, start, length))

    def stat(self, bucket: str, key: str) -> int | None:
        try:
            with self._errors(f"{bucket}/{key}"):
                return self._client.stat_object(bucket, key).size
        except UnknownBlob:
            return None

    def copy(self, bucket: str, key: str, to_bucket: str, to_key: str) -> None:
        with self._errors(f"{bucket}/{key}"):
            self._client.copy_object(to_bucket, to_key, CopySource(bucket, key))

    def copy_checked(self, bucket: str, key: str, to_bucket: str, to_key: str, expected: Stored) -> None:
        with closing(self._parts(bucket, key, self._size(bucket, key))) as parts:
            # The key appears at the end of the parts, which is only reached by the right bytes.
            self._put(to_bucket, to_key, _checked(parts, expected), {})

    def delete(self, bucket: str, key: str) -> None:
        self._remove(self._client, bucket, key)

    def delete_once(self, bucket: str, key: str) -> None:
        self._remove(self._impatient_client, bucket, key)

    def list(self, bucket: str, prefix: str) -> Iterator[str]:
        for entry in self.entries(bucket, prefix):
            yield entry.key

    def entries(self, bucket: str, prefix: str) -> Iterator[Entry]:
        with self._errors(f"{bucket}/{prefix}"):
            for item in self._client.list_objects(bucket, prefix=prefix, recursive=True):
                if item.object_name is not None and item.last_modified is not None:
                    yield Entry(item.object_name, item.size or 0, item.last_modified.timestamp())

    def sha256(self, bucket: str, key: str) -> Stored:
        digest = hashlib.sha256()
        num_bytes = 0
        with closing(self._parts(bucket, key, self._size(bucket, key))) as parts:
            for part in parts:
                digest.update(part)
                num_bytes += len(part)
        return Stored(num_bytes, digest.hexdigest())

    def _remove(self, client: Minio, bucket: str, key: str) -> None:
        with suppress(UnknownBlob), self._errors(f"{bucket}/{key}"):
            client.remove_object(bucket, key)

    def _size(self, bucket: str, key: str) -> int:
        size_bytes = self.stat(bucket, key)
        if size_bytes is None:
            raise UnknownBlob(f"there is no {bucket}/{key}")
        return size_bytes

    def protect(self, bucket: str) -> Protection:
        with self._errors(bucket):
            return find_protection(self._client, bucket)

    def retain(self, bucket: str, key: str, seconds: float) -> None:
        with self._errors(f"{bucket}/{key}"):
            retain(self._client, bucket, key, datetime.now(UTC) + timedelta(seconds=seconds))

    def _part_size(self, size_bytes: int) -> int:
        return max(self._part_bytes, ceil(size_bytes / MAX_PARTS))

    def _put(self, bucket: str, key: str, parts: Iterator[bytes], headers: dict[str, str]) -> None:
        """Makes an object of the parts, if they come to their end; a single part goes in one request."""
        part, following = next(parts, b""), next(parts, b"")
        if not following:
            with self._errors(f"{bucket}/{key}"):
                self._client._put_object(bucket, key, part, {"Content-Type": CONTENT_TYPE, **headers})
            return
        with self._multipart(bucket, key, headers) as upload:
            while part:
                with self._errors(f"{bucket}/{key}"):
                    upload.add(part)
                part, following = following, next(parts, b"")

    @contextmanager
    def _multipart(self, bucket: str, key: str, headers: dict[str, str]) -> Iterator[_Multipart]:
        """An upload in parts that becomes the object when the block ends well, and leaves no trace when it does not."""
        with self._errors(f"{bucket}/{key}"):
            upload = _Multipart(self._client, bucket, key, headers, self._num_parallel_parts)
        try:
            yield upload
            with self._errors(f"{bucket}/{key}"):
                upload.complete()
        except BaseException:
            upload.stop()
            # The first error is the one to tell. If the server is away, it drops the parts by its own rules.
            with suppress(QuantryError), self._errors(f"{bucket}/{key}"):
                upload.abort()
            raise

    def _download(self, bucket: str, key: str, descriptor: int, expected: Stored) -> None:
        """Fetches an object into an open file, each part hashed from memory while it is written.

        One thread writes: several that write to one file wait for its lock by spinning, which took as long as the hashing.
        """
        size_bytes = self._size(bucket, key)
        if size_bytes != expected.size_bytes:
            raise DigestMismatch(f"{bucket}/{key} has {size_bytes} bytes, expected {expected.size_bytes}")
        digest = hashlib.sha256()
        # The thread writes to this descriptor: it has ended when that is closed.
        with ThreadPoolExecutor(1, thread_name_prefix="blob-write") as writer, closing(self._parts(bucket, key, size_bytes)) as parts:
            for part in parts:
                written = writer.submit(_write, descriptor, part)
                digest.update(part)
                written.result()
        if digest.hexdigest() != expected.sha256:
            raise DigestMismatch(f"{bucket}/{key} has the SHA-256 {digest.hexdigest()}, expected {expected.sha256}; nothing was kept")

    def _parts(self, bucket: str, key: str, size_bytes: int) -> Generator[bytes, None, None]:
        """Yields an object in parts of one size, in their order, while the next ones are on their way. Close it if you stop early.

        In ranges because rclone's server hashes (MD5) whatever it reads from beginning to end.
        """
        part_bytes = self._part_size(size_bytes)
        starts = iter(range(0, size_bytes, part_bytes))
        pool = ThreadPoolExecutor(self._num_parallel_parts, thread_name_prefix="blob-part")

        def ask(start: int) -> Future[bytes]:
            return pool.submit(self._part, bucket, key, start, min(part_bytes, size_bytes - start))

        try:
            under_way = deque(ask(start) for start in islice(starts, self._num_parallel_parts // 2))
            while under_way:
                yield under_way.popleft().result()
                under_way.extend(ask(start) for start in islice(starts, 1))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _part(self, bucket: str, key: str, start: int, length: int) -> bytes:
        with self._errors(f"{bucket}/{key}"):
            response = self._client.get_object(bucket, key, offset=start, length=length)
            try:
                # In one piece: no copy is made on the way from the socket.
                data: bytes = response.read()
            finally:
                response.close()
                response.release_conn()
        if len(data) != length:
            raise StoreUnavailable(f"the object store ended {bucket}/{key} at byte {start + len(data)}, before {start + length}")
        return data

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turns minio-py's and urllib3's errors into ours."""
        try:
            yield
        except S3Error as error:
            raise self._from_s3(error, what) from error
        except TimeRefused as error:
            raise StoreUnavailable(f"the object store at {self._endpoint} refuses {what}: {error}") from error
        except (MinioException, HTTPError, ConnectionError) as error:
            raise StoreUnavailable(f"the object store at {self._endpoint} does not answer for {what}: {error}") from error

    def _from_s3(self, error: S3Error, what: str) -> QuantryError:
        if error.code in _MISSING_CODES:
            return UnknownBlob(f"there is no {what}")
        if error.code in _REFUSED_CODES:
            return StoreRefused(
                f"the object store at {self._endpoint} refuses {what} ({error.code}: {error.message}); check QUANTRY_S3_* and the buckets"
            )
        return StoreUnavailable(f"the object store at {self._endpoint} cannot serve {what} now ({error.code}: {error.message})")


def _pool(timeout: urllib3.Timeout, retries: urllib3.Retry, *, maxsize: int) -> StorePool:
    """Returns connections to the server, of which ``maxsize`` are kept."""
    ca_certs = os.environ.get("SSL_CERT_FILE") or certifi.where()
    return StorePool(timeout=timeout, maxsize=maxsize, cert_reqs="CERT_REQUIRED", ca_certs=ca_certs, retries=retries)


def _checked(parts: Iterator[bytes], expected: Stored) -> Iterator[bytes]:
    """Yields the parts on; raises OtherBytes at their end if they were not what is expected."""
    digest = hashlib.sha256()
    num_bytes = 0
    for part in parts:
        digest.update(part)
        num_bytes += len(part)
        yield part
    if (found := Stored(num_bytes, digest.hexdigest())) != expected:
        raise OtherBytes(found, expected)


def _parts_of(reader: _HashingReader, part_bytes: int) -> Iterator[bytes]:
    while part := reader.read(part_bytes):
        yield part


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class _Multipart:
    """An upload in numbered parts, some of them under way at once.

    minio-py's ``put_object`` would do, but that it takes the end of a stream that broke for the end of the object: its
    upload threads wait for ever when ``read`` raises. These are the calls it is made of.
    """

    def __init__(self, client: Minio, bucket: str, key: str, headers: dict[str, str], num_parallel_parts: int) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._headers = headers
        self._num_parallel_parts = num_parallel_parts
        self._id = client._create_multipart_upload(bucket, key, {"Content-Type": CONTENT_TYPE})
        self._pool = ThreadPoolExecutor(num_parallel_parts, thread_name_prefix="blob-part")
        self._under_way: deque[Future[str]] = deque()
        self._etags: list[str] = []

    def add(self, data: bytes) -> None:
        """Begins to send the next part; waits while as many as may be are under way."""
        if len(self._under_way) == self._num_parallel_parts:
            self._etags.append(self._under_way.popleft().result())
        number = len(self._etags) + len(self._under_way) + 1
        # A copy of the headers: minio-py adds to what it is given.
        send = partial(self._client._upload_part, self._bucket, self._key, data, {**self._headers}, self._id, number)
        self._under_way.append(self._pool.submit(send))

    def complete(self) -> None:
        """Makes an object of the parts."""
        self._etags.extend(part.result() for part in self._under_way)
        self._under_way.clear()
        self.stop()
        parts = [Part(number, etag) for number, etag in enumerate(self._etags, start=1)]
        self._client._complete_multipart_upload(self._bucket, self._key, self._id, parts)

    def stop(self) -> None:
        """Waits for the parts under way, and sends no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def abort(self) -> None:
        """Makes the server forget the parts."""
        self._client._abort_multipart_upload(self._bucket, self._key, self._id)


class _HashingReader:
    """A stream that is hashed and counted while it is read. Raises TooLarge past ``max_bytes``."""

    def __init__(self, stream: BinaryIO, max_bytes: int | None) -> None:
        self._stream = stream
        self._max_bytes = max_bytes
        self._digest = hashlib.sha256()
        self._num_bytes = 0

    def read(self, num_bytes: int) -> bytes:
        """Returns the next ``num_bytes``; fewer only where the stream ends."""
        pieces: list[bytes] = []
        missing = num_bytes
        while missing and (piece := self._stream.read(missing)):
            pieces.append(piece)
            missing -= len(piece)
        data = b"".join(pieces)
        self._num_bytes += len(data)
        if self._max_bytes is not None and self._num_bytes > self._max_bytes:
            raise TooLarge(f"the upload has more than the {self._max_bytes} bytes allowed")
        self._digest.update(data)
        return data

    def stored(self) -> Stored:
        return Stored(self._num_bytes, self._digest.hexdigest())
