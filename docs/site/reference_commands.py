"""The command line, drawn from the command itself: one page for each group of commands."""

from __future__ import annotations

from collections.abc import Iterator

import typer
from typer.core import TyperGroup
from typer.main import get_command

from quantry.cli.main import build_app


def pages() -> dict[str, str]:
    """Returns the pages of the command line by their paths in the site."""
    command = get_command(build_app())
    if not isinstance(command, TyperGroup):
        raise TypeError("the command line has no sub-commands")
    context = typer.Context(command, info_name="quantry")
    own: list[str] = []
    found: dict[str, str] = {}
    links: list[str] = []
    for name in sorted(command.list_commands(context)):
        one = command.get_command(context, name)
        if one is None or one.hidden:
            continue
        text = "\n".join(_described(one, typer.Context(one, info_name=name, parent=context)))
        if isinstance(one, TyperGroup):
            found[f"reference/commands/{name}.md"] = f"# quantry {name}\n\n{text}"
            links.append(f"- [quantry {name}]({name}.md): {_first_line(one.help)}")
        else:
            own.append(text)
    index = ["# The command line", "", f"{command.help or ''}", "", *links, "", *own]
    found["reference/commands/index.md"] = "\n".join(index)
    return found


def _described(command: object, context: typer.Context) -> Iterator[str]:
    if isinstance(command, TyperGroup):
        yield f"{_plain(command.help)}\n"
        for name in sorted(command.list_commands(context)):
            one = command.get_command(context, name)
            if one is not None and not one.hidden:
                yield from _described(one, typer.Context(one, info_name=name, parent=context))
        return
    yield f"## {context.command_path}\n"
    yield f"{_plain(context.command.help)}\n"
    yield f"```\n{' '.join([context.command_path, *context.command.collect_usage_pieces(context)])}\n```\n"
    rows = [row for parameter in context.command.get_params(context) if (row := parameter.get_help_record(context))]
    if rows:
        yield "| option | |\n|---|---|"
        yield from (f"| `{_cell(option)}` | {_plain(_cell(words))} |" for option, words in rows)
        yield ""


def _first_line(text: str | None) -> str:
    return _plain(text).partition("\n")[0]


def _plain(text: str | None) -> str:
    return (text or "").replace("\b", "").replace("<", "&lt;").strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
