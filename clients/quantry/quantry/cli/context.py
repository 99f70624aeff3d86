"""What every command shares: the options that say which server, and the way to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from quantry.cli.values import selector
from quantry.client import Client
from quantry.retries import Retries

BRIEF_TIMEOUT_S = 1.5

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
LimitOption = Annotated[int, typer.Option("--limit", min=1, max=100, help="Items of one page.")]
AfterOption = Annotated[str | None, typer.Option("--after", help="Show the page that follows this id.")]
SelectorOption = Annotated[
    str | None,
    typer.Option("--label", parser=selector, metavar="SELECTOR", help="By labels, such as team=search,stage!=test,!draft."),
]


@dataclass(frozen=True)
class Server:
    """The server named on the command line; what is None is looked up elsewhere."""

    url: str | None = None
    api_key: str | None = None
    profile: str | None = None


def server_of(context: typer.Context) -> Server:
    """Returns what the command line says of the server."""
    return context.obj if isinstance(context.obj, Server) else Server()


def connect(context: typer.Context) -> Client:
    """Returns a client for the server of this command; raises ConfigurationError if none can be found."""
    server = server_of(context)
    return Client(server.url, server.api_key, profile=server.profile)


def connect_once(server: Server, timeout_s: float = BRIEF_TIMEOUT_S) -> Client:
    """Returns a client that asks once and waits for so long only: for a shell that completes, and for the doctor."""
    return Client(server.url, server.api_key, timeout_s, profile=server.profile, retries=Retries(max_attempts=1))
