"""Blobs of the vault as answers: whole, one range of them, or nothing where the client has them already (RFC 9110)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Header, Request, Response
from fastapi.responses import StreamingResponse

from quantry_blobs.errors import DigestMismatch, UnknownBlob
from quantry_blobs.vault import Vault
from quantry_core.errors import RangeNotSatisfiable
from quantry_core.versions import ManifestFile
from quantry_http.problems import problem_response, problem_responses
from quantry_registry.ranges import etag_of, matches, requested_range
from quantry_registry.streams import open_stream

DOWNLOAD_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}, "description": "The file."},
    206: {"description": "The range that was asked for."},
    304: {"description": "If-None-Match names these very bytes."},
    **problem_responses(404, 409, 416),
}


@dataclass(frozen=True)
class Wanted:
    """What a request wants of a file, and on which conditions."""

    url_path: str
    range_: str | None
    if_range: str | None
    if_none_match: str | None


async def wanted_of(
    request: Request,
    range_: Annotated[str | None, Header(alias="Range")] = None,
    if_range: Annotated[str | None, Header()] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Wanted:
    """Returns what this request's headers say."""
    return Wanted(request.url.path, range_, if_range, if_none_match)


WantedOf = Annotated[Wanted, Depends(wanted_of)]
"""What the request wants of a file."""


async def download(vault: Vault, file: ManifestFile, wanted: Wanted) -> Response:
    """Returns the answer that streams a file, or one range of it; raises DigestMismatch if the vault has lost the file."""
    etag = etag_of(file.sha256)
    if matches(wanted.if_none_match, etag):
        return Response(status_code=304, headers={"ETag": etag})
    try:
        part = requested_range(wanted.range_, wanted.if_range, etag, file.size_bytes)
    except RangeNotSatisfiable as error:
        return problem_response(error.problem(wanted.url_path), {"Content-Range": f"bytes */{file.size_bytes}"})
    headers = download_headers(file)
    if part is None:
        return StreamingResponse(await _open(vault, file, 0, file.size_bytes), headers=headers)
    headers |= {"Content-Range": part.content_range, "Content-Length": str(part.length)}
    return StreamingResponse(await _open(vault, file, part.start, part.length), status_code=206, headers=headers)


def download_headers(file: ManifestFile) -> dict[str, str]:
    """Returns the headers of a whole file. Its ETag is its SHA-256; the last part of its path is what a browser calls it."""
    return {
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",
        "Content-Disposition": f'attachment; filename="{file.path.rpartition("/")[2]}"',
        "Content-Length": str(file.size_bytes),
        "Content-Type": "application/octet-stream",
        "ETag": etag_of(file.sha256),
        "X-Content-Type-Options": "nosniff",
    }


async def _open(vault: Vault, file: ManifestFile, start: int, length: int) -> AsyncIterator[bytes]:
    try:
        return await open_stream(vault.open_range(file.sha256, start, length))
    except UnknownBlob as error:
        raise DigestMismatch(f"the vault has lost {file.sha256} ({file.path}); restore it from a copy of the bucket") from error
