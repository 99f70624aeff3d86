"""Files of versions and datasets for people's browsers: passed on as they come, each checked against its digest on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import PurePosixPath
from urllib.parse import quote

from fastapi import APIRouter, Request
from starlette.background import BackgroundTask
from starlette.responses import Response, StreamingResponse

from quantry import Client
from quantry.open_files import OpenFile
from quantry_dashboard import sign_in
from quantry_dashboard.in_place_of_files import asked_for

Opening = Callable[[Client], AbstractContextManager[OpenFile]]


def routes(door: sign_in.Door) -> APIRouter:
    """Returns the addresses of files that may be of any size: nothing of them is kept here."""
    router = APIRouter(include_in_schema=False)

    @router.get("/versions/{ref}/files/{path:path}")
    async def version_file(request: Request, ref: str, path: str) -> Response:
        return await _passed_on(door, request, lambda client: client.versions.file(ref, path))

    @router.get("/datasets/{ref}/content")
    async def dataset_content(request: Request, ref: str) -> Response:
        return await _passed_on(door, request, lambda client: client.datasets.content(ref))

    return router


async def _passed_on(door: sign_in.Door, request: Request, opening: Opening) -> Response:
    stack = ExitStack()
    content = await asked_for(door, request, lambda client: stack.enter_context(opening(client)))
    if isinstance(content, Response):
        return content
    headers = {
        "content-length": str(content.file.size_bytes),
        # Never shown, whatever it holds: a page of somebody's making would be one of this origin.
        "content-disposition": f"attachment; filename*=UTF-8''{quote(PurePosixPath(content.file.path).name)}",
        "cache-control": "no-store",
        "etag": f'"{content.file.sha256}"',
    }
    # Closed in the end also where the browser went away before the first byte.
    closing = BackgroundTask(stack.close)
    return StreamingResponse(_pieces(stack, content), media_type="application/octet-stream", headers=headers, background=closing)


def _pieces(stack: ExitStack, content: OpenFile) -> Iterator[bytes]:
    """Yields a file's bytes. One that breaks off or is wrong breaks the answer off too, so that no browser takes it for whole."""
    with stack:
        yield from content.pieces
