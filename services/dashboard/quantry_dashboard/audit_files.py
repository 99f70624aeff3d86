"""The audit log as a file: CSV or JSON, page by page as the API has it, under the key of whoever is signed in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from enum import StrEnum

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse

from quantry import Client
from quantry_core.audit import AuditEntry
from quantry_core.pages import MAX_LIMIT, Page
from quantry_dashboard import sign_in
from quantry_dashboard.asking import ask
from quantry_dashboard.audit_view import EXPORT, MAX_EXPORTED, AuditView, csv_head, csv_rows, export_name, json_lines, parse
from quantry_dashboard.in_place_of_files import asked_for
from quantry_dashboard.sessions import Session


class FileFormat(StrEnum):
    """What a log is exported to."""

    CSV = "csv"
    JSON = "json"


MEDIA_TYPES = {FileFormat.CSV: "text/csv; charset=utf-8", FileFormat.JSON: "application/json"}


def routes(door: sign_in.Door) -> APIRouter:
    """Returns the addresses of the files."""
    router = APIRouter(include_in_schema=False)

    @router.get(f"{EXPORT}.{{format}}")
    async def export(request: Request, format: FileFormat) -> Response:
        view, problems = parse(request.query_params)
        if problems:
            return PlainTextResponse("\n".join(problems) + "\n", 422)
        # Before the first byte of the answer: what is refused is said, not sent as half a file.
        first = await asked_for(door, request, lambda client: _page(client, view, None))
        session = door.session_of(request)
        if isinstance(first, Response) or session is None:
            return first if isinstance(first, Response) else sign_in.to_sign_in(request, "over")
        headers = {
            "content-disposition": f'attachment; filename="{export_name(view, datetime.now(UTC), format)}"',
            "cache-control": "no-store",
        }
        return StreamingResponse(_written(session, view, first, format), media_type=MEDIA_TYPES[format], headers=headers)

    return router


async def _written(session: Session, view: AuditView, first: Page[AuditEntry], format: FileFormat) -> AsyncIterator[str]:
    """Yields the file. A question that fails on the way ends the answer unfinished: browsers then say that the download failed."""
    page, num_written = first, 0
    yield csv_head() if format is FileFormat.CSV else "[\n"
    while True:
        entries = page.data[: MAX_EXPORTED - num_written]
        lines = csv_rows(entries) if format is FileFormat.CSV else json_lines(entries, is_first=num_written == 0)
        yield "".join(lines)
        num_written += len(entries)
        if not page.has_more or num_written >= MAX_EXPORTED:
            break
        last_id = page.last_id
        page = await ask(session, lambda client, last_id=last_id: _page(client, view, last_id))  # type: ignore[misc]
    if format is FileFormat.JSON:
        yield "\n]\n"


def _page(client: Client, view: AuditView, after: str | None) -> Page[AuditEntry]:
    return client.audit.list(view.which, after=after, limit=MAX_LIMIT)
