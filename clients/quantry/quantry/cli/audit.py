"""``quantry audit``: who did what, and whether the log is whole. For admins."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Annotated

import typer

from quantry.cli.context import AfterOption, JsonOption, LimitOption, connect
from quantry.cli.output import Column, emit_json, print_fields, print_page, say, stderr, time_text
from quantry.cli.specs import build
from quantry.cli.values import moment
from quantry_core.audit import AuditEntry, AuditFilter
from quantry_core.pages import DEFAULT_LIMIT

EXIT_BROKEN = 1
MAX_DATA_CHARS = 60

app = typer.Typer(help="Look at the audit log and verify that it is whole.", no_args_is_help=True)

_NOTED = re.compile(r"([1-9][0-9]{0,18}):([0-9a-f]{64})")


def _data_text(entry: AuditEntry) -> str:
    text = json.dumps(entry.data, ensure_ascii=False) if entry.data else ""
    return text if len(text) <= MAX_DATA_CHARS else text[: MAX_DATA_CHARS - 1] + "…"


_COLUMNS: tuple[Column[AuditEntry], ...] = (
    ("no.", lambda entry: str(entry.seq)),
    ("when", lambda entry: time_text(entry.created_at)),
    ("who", lambda entry: entry.key_id or "the platform"),
    ("role", lambda entry: entry.role or ""),
    ("what", lambda entry: entry.action),
    ("which", lambda entry: entry.noun_id),
    ("data", _data_text),
)


def noted(text: str) -> tuple[int, str]:
    """Returns a place and its hash from ``120:9f86...``; a usage error for anything else."""
    match = _NOTED.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{text[:80]!r}: NUMBER:HASH, as quantry audit verify prints it")
    return int(match[1]), match[2]


@app.command("list")
def list_audit(
    context: typer.Context,
    *,
    who: Annotated[str | None, typer.Option(metavar="KEY", help="Only what this key did, key_...")] = None,
    action: Annotated[str | None, typer.Option(metavar="ACTION", help="Only this: job.submit; or all on a noun: job.*")] = None,
    noun: Annotated[str | None, typer.Option(metavar="NOUN", help="Only what was done to such things: job, key, deployment.")] = None,
    noun_id: Annotated[str | None, typer.Option("--of", metavar="ID", help="Only what was done to this one.")] = None,
    since: Annotated[datetime | None, typer.Option(parser=moment, metavar="TIME", help="Not before: 2026-12-24T18:00.")] = None,
    until: Annotated[datetime | None, typer.Option(parser=moment, metavar="TIME", help="Before.")] = None,
    limit: LimitOption = DEFAULT_LIMIT,
    after: AfterOption = None,
    as_json: JsonOption = False,
) -> None:
    """List who did what, newest first."""
    which = build(AuditFilter, key_id=who, action=action, noun=noun, noun_id=noun_id, since=since, until=until)
    with connect(context) as client:
        page = client.audit.list(which, after=after, limit=limit)
    if as_json:
        emit_json(page)
    else:
        print_page(page, _COLUMNS, empty="Nothing of that is in the log.")


@app.command("verify")
def verify_audit(
    context: typer.Context,
    expect: Annotated[
        list[str] | None, typer.Option(metavar="NUMBER:HASH", help="A place as an earlier verify printed it; may be given again.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Walk along the whole log; exit with 1 and the first entry that does not fit if it is not whole."""
    places = [noted(text) for text in expect or []]
    with connect(context) as client:
        found = [client.audit.verify(seq=seq, hash=hash) for seq, hash in places] or [client.audit.verify()]
    worst = next((one for one in found if not one.is_whole), found[-1])
    if as_json:
        emit_json(worst)
    elif worst.broken_at is None:
        print_fields(
            [
                ("entries", str(worst.num_entries)),
                ("from", None if worst.first_seq is None else str(worst.first_seq)),
                ("cut off by retention", None if worst.anchor is None else f"up to {worst.anchor.seq}"),
                ("end", f"{worst.last_seq}:{worst.last_hash}"),
            ]
        )
        say("The log is whole. Keep its end elsewhere: --expect holds a later log against it.")
    else:
        broken = worst.broken_at
        named = "" if broken.entry_id is None else f" ({broken.entry_id})"
        stderr().print(f"The log is not whole: at entry {broken.seq}{named}: {broken.why}", soft_wrap=True)
    if not worst.is_whole:
        raise typer.Exit(EXIT_BROKEN)
