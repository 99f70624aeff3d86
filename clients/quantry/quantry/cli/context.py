"""What every command shares: the options that say which server, and the way to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from quantry.cli.values import selector
from quantry.client import Client

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=100, help="Items of one page.")]
AfterOption = Annotated[str | None, typer.Option("--after", help="Show the page that follows this id.")]
SelectorOption = Annotated[
    str | None,
    typer.Option("--label", parser=selector, metavar="SELECTOR", help="By labels, such as team=search,stage!=test,!draft."),
]
ScheduleOption = Annotated[str | None, typer.Option(metavar="SCHEDULE", help="Only what this schedule submitted, sch_...")]


@dataclass(frozen=True)
class Server:
    """The server named on the command line; what is None is looked up elsewhere."""

    url: str | None
    api_key: str | None


def connect(context: typer.Context) -> Client:
    """Returns a client for the server of this command; raises ConfigurationError if none can be found."""
    server = context.obj if isinstance(context.obj, Server) else Server(url=None, api_key=None)
    return Client(server.url, server.api_key)
