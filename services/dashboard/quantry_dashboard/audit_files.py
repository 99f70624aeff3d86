"""The audit log as a file: CSV or JSON, page by page as the API has it, under the key of whoever is signed in."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from enum import StrEnum

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse

from quantry_core.audit import AuditEntry
from quantry_core.pages import MAX_LIMIT, Page
from quantry_dashboard import sign_in
from quantry_dashboard.administration import AUDIT
from quantry_dashboard.asking import NotDone, SignedOut, ask
from quantry_dashboard.audit_view import EXPORT, MAX_EXPORTED, AuditView, csv_head, csv_rows, export_name, json_lines, parse
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
        session = door.session_of(request)
        if session is None:
            return sign_in.to_sign_in(request)
        view, problems = parse(request.query_params)
        if problems:
            return PlainTextResponse("\n".join(problems) + "\n", 422)
        try:
            # Before the first byte of the answer: what is refused is said, not sent as half a file.
            first = await _page(session, view, None)
        except SignedOut:
            door.sessions.end(session)
            return RedirectResponse(sign_in.form_address("over", AUDIT), 303)
        except NotDone as trouble:
            return PlainTextResponse(f"{trouble}\n", 502)
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
        page = await _page(session, view, page.last_id)
    if format is FileFormat.JSON:
        yield "\n]\n"


async def _page(session: Session, view: AuditView, after: str | None) -> Page[AuditEntry]:
    return await ask(session, lambda client: client.audit.list(view.which, after=after, limit=MAX_LIMIT))
