"""``quantry doctor``: what is wrong with this machine, or with the installation behind the server, and what to do about it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from quantry.checkup.findings import Check, Finding, Level, Report, Teller, report_of
from quantry.checkup.machine import machine_checks
from quantry.checkup.server import ServerLook
from quantry.cli.context import JsonOption, connect_once, server_of
from quantry.cli.output import emit_json, say, stdout
from quantry.cli.plugins import plugin_checks
from quantry.config import client_file_path, resolve_connection
from quantry.errors import ConfigurationError

EXIT_FAILED = 1
TIMEOUT_S = 10.0
_AREA_OF_SERVER = "server"

_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def doctor(
    context: typer.Context,
    only_machine: Annotated[bool, typer.Option("--machine", help="Only this machine; ask no server.")] = False,
    problems: Annotated[bool, typer.Option("--problems", help="Show only what is not ok.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look at this machine and at the server, and say what is wrong and what to do. Exits with 1 where something fails."""
    report = _look(context, only_machine=only_machine)
    shown = report.model_copy(update={"checks": [one for one in report.checks if one.level is not Level.OK or not problems]})
    if as_json:
        emit_json(shown)
    else:
        _show(shown.checks)
    if report.level is Level.FAIL:
        raise typer.Exit(EXIT_FAILED)


def _look(context: typer.Context, *, only_machine: bool) -> Report:
    checks = [*machine_checks(client_file_path().parent), *plugin_checks()]
    if only_machine:
        return report_of(checks)
    server = server_of(context)
    try:
        connection = resolve_connection(server.url, server.api_key, profile=server.profile)
    except ConfigurationError as error:
        found = [Teller(_AREA_OF_SERVER, "settings").fail(str(error), "name one: quantry config set-profile; or start one: quantry up")]
        return report_of([*checks, Check(_AREA_OF_SERVER, "settings", lambda: found)])
    # Asked once: the doctor says that something is away, and does not wait until it is back.
    with connect_once(server, TIMEOUT_S) as client:
        return report_of([*checks, *ServerLook(client, connection, lambda: datetime.now(UTC)).checks()])


def _show(findings: Sequence[Finding]) -> None:
    """Prints a line for each finding, with what to do below it."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    for one in findings:
        table.add_row(Text(one.level, style=_STYLES[one.level]), f"{one.area}: {one.name}", one.message)
        if one.action is not None:
            table.add_row("", "", Text(f"-> {one.action}", style="italic"))
    if findings:
        stdout().print(table)
    counts = {level: sum(one.level is level for one in findings) for level in Level}
    if not counts[Level.WARN] and not counts[Level.FAIL]:
        say("Nothing is wrong.")
    else:
        say(f"{counts[Level.FAIL]} failed, {counts[Level.WARN]} to look at")
