"""Commands of ``quantry models`` about aliases: list, show, history, set, delete."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from quantry.cli.completion import model_names, version_refs
from quantry.cli.context import JsonOption, connect
from quantry.cli.output import Column, emit_json, print_table, say, time_text
from quantry.cli.values import moment
from quantry_core.aliases import Alias, AliasChange

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", autocompletion=model_names)]
AliasArgument = Annotated[str, typer.Argument(metavar="ALIAS")]

_COLUMNS: tuple[Column[Alias], ...] = (
    ("alias", lambda alias: alias.alias),
    ("version", lambda alias: alias.version_id),
    ("since", lambda alias: time_text(alias.updated_at)),
)

_CHANGES: tuple[Column[AliasChange], ...] = (
    ("at", lambda change: time_text(change.created_at)),
    ("to", lambda change: change.version_id or "deleted"),
    ("from", lambda change: change.previous_version_id or ""),
    ("key", lambda change: change.key_id or "the platform"),
)


def list_aliases(context: typer.Context, name: ModelArgument, as_json: JsonOption = False) -> None:
    """List a model's aliases and the versions they point at."""
    with connect(context) as client:
        aliases = client.models.aliases(name)
    if as_json:
        emit_json(aliases)
    else:
        print_table(aliases, _COLUMNS, empty="It has no aliases.")


def show_alias(
    context: typer.Context,
    name: ModelArgument,
    alias: AliasArgument,
    at: Annotated[
        datetime | None,
        typer.Option("--at", parser=moment, metavar="TIME", help="Where it pointed then: ISO 8601, local without a zone."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show which version an alias points at, or pointed at some time ago."""
    with connect(context) as client:
        found = client.models.alias(name, alias, at=at)
    if as_json:
        emit_json(found)
    else:
        say(f"{name}@{alias}: {found.version_id} since {time_text(found.updated_at)}")


def show_alias_history(context: typer.Context, name: ModelArgument, alias: AliasArgument, as_json: JsonOption = False) -> None:
    """Show every move of an alias, newest first."""
    with connect(context) as client:
        changes = client.models.alias_history(name, alias)
    if as_json:
        emit_json(changes)
    else:
        print_table(changes, _CHANGES, empty="It never was.")


def set_alias(
    context: typer.Context,
    name: ModelArgument,
    alias: AliasArgument,
    ref: Annotated[str, typer.Argument(metavar="REF", help="ver_..., MODEL@3, or MODEL@ another alias.", autocompletion=version_refs)],
    as_json: JsonOption = False,
) -> None:
    """Point an alias at a version that is ready."""
    with connect(context) as client:
        moved = client.models.move_alias(name, alias, client.versions.get(ref).id)
    if as_json:
        emit_json(moved)
    else:
        say(f"{name}@{alias}: {moved.version_id}")


def delete_alias(context: typer.Context, name: ModelArgument, alias: AliasArgument, as_json: JsonOption = False) -> None:
    """Delete an alias; its history stays, and the version it pointed at can be deleted then."""
    with connect(context) as client:
        client.models.delete_alias(name, alias)
    if as_json:
        emit_json({"deleted": f"{name}@{alias}"})
    else:
        say(f"{name}@{alias} is deleted")
