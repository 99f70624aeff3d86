"""``quantry jobs submit json``: a job as the API's schema has it, for what was written by a program or copied from the dashboard."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer

from quantry.cli.context import JsonOption, connect
from quantry.cli.output import emit_json, say

MAX_CHARS = 4 * 1024**2
"""Beyond what the API takes."""


def submit_json(
    context: typer.Context,
    submission: Annotated[str, typer.Argument(metavar="JSON", help="The body of POST /api/v1/jobs, or - to read it from standard input.")],
    idempotency_key: Annotated[str | None, typer.Option(help="The same key with the same job again makes no second one.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Submit a job of any type, written as JSON."""
    document = _document(sys.stdin.read(MAX_CHARS) if submission == "-" else submission)
    with connect(context) as client:
        job = client.jobs.submit_document(document, idempotency_key=idempotency_key)
    if as_json:
        emit_json(job)
    else:
        say(f"{job.id} {job.status}; follow it: quantry jobs watch {job.id}")


def _document(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"this is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise typer.BadParameter('a JSON object is needed, such as {"spec": {"type": "import", ...}}')
    return document
