"""Datasets that people send with their browser: kept on disk until they are whole, then sent on."""

from __future__ import annotations

import asyncio
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import NamedTuple

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from quantry_core.datasets import Dataset, DatasetKind
from quantry_dashboard import facts, sign_in
from quantry_dashboard.asking import NotDone, SignedOut, ask
from quantry_dashboard.dataset_facts import dataset_address
from quantry_dashboard.sessions import Session

PATH = "/datasets/upload"
MAX_UPLOAD_BYTES = 1024**3
"""As long as the registry takes them by itself; its own setting may say less, and then it says so."""
SUFFIXES = frozenset({".txt", ".md", ".jsonl", ".ndjson"})
"""That say what a file is; of others the registry looks at the beginning."""


def routes(door: sign_in.Door) -> APIRouter:
    """Returns where the form of the datasets' page sends a file: the body is the file, ``name``, ``kind`` and ``file`` are in the query."""
    router = APIRouter(include_in_schema=False)

    @router.put(PATH)
    async def upload(request: Request, name: str = "", kind: str = "", file: str = "") -> Response:
        session = door.session_of(request)
        try:
            if session is None:
                raise SignedOut
            dataset = await _take(session, request, _Asked(name.strip(), kind, file))
        except SignedOut:
            return _said("Your session has ended, or your key was revoked. Sign in again.", 401)
        except NotDone as error:
            return _said(str(error), 422)
        except ClientDisconnect:
            return _said("The upload broke off.", 400)
        except HTTPException as error:
            return _said(error.detail, error.status_code)
        return JSONResponse({"address": dataset_address(dataset.id)}, 201)

    return router


class _Asked(NamedTuple):
    """What the form says of a file."""

    name: str
    kind: str
    file: str


async def _take(session: Session, request: Request, asked: _Asked) -> Dataset:
    """Returns the dataset that a request's body now is; raises SignedOut, NotDone."""
    problem = _problem(session, request, asked)
    if problem is not None:
        raise NotDone(problem)
    kind = DatasetKind(asked.kind) if asked.kind else None
    with TemporaryDirectory(prefix="quantry-upload-") as directory:
        path = Path(directory) / f"upload{_suffix(asked.file)}"
        await _receive(request, path)
        return await ask(session, lambda client: client.datasets.upload(asked.name, path, kind=kind))


def _problem(session: Session, request: Request, asked: _Asked) -> str | None:
    """Returns why nothing of the body is read; None where it is."""
    hindrance = facts.hindrance(session.identity)
    if hindrance is not None:
        return hindrance
    if not asked.name:
        return "A dataset needs a name."
    if asked.kind and asked.kind not in set(DatasetKind):
        return f"There is no kind {asked.kind!r} of dataset."
    length = request.headers.get("content-length", "")
    return _too_large() if length.isdecimal() and int(length) > MAX_UPLOAD_BYTES else None


def _too_large() -> str:
    return f"A dataset that is uploaded here has at most {MAX_UPLOAD_BYTES // 1024**2} MiB; derive larger ones from parts of them."


def _suffix(file: str) -> str:
    suffix = PurePosixPath(file).suffix.lower()
    return suffix if suffix in SUFFIXES else ""


async def _receive(request: Request, path: Path) -> None:
    """Writes a request's body; raises NotDone where it is too long."""
    num_bytes = 0
    with path.open("wb") as output:
        async for piece in request.stream():
            num_bytes += len(piece)
            if num_bytes > MAX_UPLOAD_BYTES:
                raise NotDone(_too_large())
            await asyncio.to_thread(output.write, piece)


def _said(sentence: str, status: int) -> JSONResponse:
    return JSONResponse({"problem": sentence}, status)
