# Made from quantry/aio/open_files.py by make_sync.py: change that file, and run this again.
"""Files of versions and datasets passed on as they come, by programs that keep nothing on a disk of their own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import httpx

from quantry.errors import DownloadDamaged, ServerUnreachable
from quantry.transport import Transport
from quantry_core.versions import ManifestFile

_IDLE_S = 60.0


class OpenFile(NamedTuple):
    """A file that is being read."""

    file: ManifestFile
    pieces: Iterator[bytes]
    """Its bytes, once. They raise DownloadDamaged at the end if they are not those of the digest, ServerUnreachable if they break off."""


@contextmanager
def open_file(transport: Transport, path: str, file: ManifestFile) -> Iterator[OpenFile]:
    """Yields the bytes that a GET of ``path`` answers, checked against ``file``; raises as ``Transport.stream`` until they come."""
    with transport.stream(path, idle_s=_IDLE_S) as response:
        yield OpenFile(file, _checked(transport, response, file))


def _checked(transport: Transport, response: httpx.Response, file: ManifestFile) -> Iterator[bytes]:
    digest = hashlib.sha256()
    try:
        for piece in response.iter_raw():
            digest.update(piece)
            yield piece
    except httpx.TransportError as error:
        raise ServerUnreachable(transport.url, f"{file.path} breaks off: {error}") from error
    if digest.hexdigest() != file.sha256:
        raise DownloadDamaged(f"{file.path} arrived with digest {digest.hexdigest()}, its manifest says {file.sha256}")
