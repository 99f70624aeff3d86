"""Files of versions and datasets passed on as they come, by programs that keep nothing on a disk of their own."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import httpx

from quantry.aio.transport import Transport
from quantry.errors import DownloadDamaged, ServerUnreachable
from quantry_core.versions import ManifestFile

_IDLE_S = 60.0


class OpenFile(NamedTuple):
    """A file that is being read."""

    file: ManifestFile
    pieces: AsyncIterator[bytes]
    """Its bytes, once. They raise DownloadDamaged at the end if they are not those of the digest, ServerUnreachable if they break off."""


@asynccontextmanager
async def open_file(transport: Transport, path: str, file: ManifestFile) -> AsyncIterator[OpenFile]:
    """Yields the bytes that a GET of ``path`` answers, checked against ``file``; raises as ``Transport.stream`` until they come."""
    async with transport.stream(path, idle_s=_IDLE_S) as response:
        yield OpenFile(file, _checked(transport, response, file))


async def _checked(transport: Transport, response: httpx.Response, file: ManifestFile) -> AsyncIterator[bytes]:
    digest = hashlib.sha256()
    try:
        async for piece in response.aiter_raw():
            digest.update(piece)
            yield piece
    except httpx.TransportError as error:
        raise ServerUnreachable(transport.url, f"{file.path} breaks off: {error}") from error
    if digest.hexdigest() != file.sha256:
        raise DownloadDamaged(f"{file.path} arrived with digest {digest.hexdigest()}, its manifest says {file.sha256}")
