"""``quantry config``: servers and keys by name."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NamedTuple

import typer
from pydantic import SecretStr

from quantry.cli.completion import profile_names
from quantry.cli.context import JsonOption, server_of
from quantry.cli.output import Column, emit_json, print_fields, print_table, say
from quantry.config import checked_key, checked_url, resolve_connection
from quantry.errors import ConfigurationError
from quantry.profiles import Profile, Profiles, profiles_path, read_profiles, write_profiles

app = typer.Typer(help="Keep servers and keys by name, and choose among them.", no_args_is_help=True)

NewNameArgument = Annotated[str, typer.Argument(metavar="PROFILE")]
NameArgument = Annotated[str, typer.Argument(metavar="PROFILE", autocompletion=profile_names)]

_STDIN = Path("-")


class _Row(NamedTuple):
    name: str
    url: str
    is_current: bool


_COLUMNS: tuple[Column[_Row], ...] = (
    ("profile", lambda row: row.name),
    ("server", lambda row: row.url),
    ("in use", lambda row: "yes" if row.is_current else ""),
)


@app.command("set-profile")
def set_profile(
    name: NewNameArgument,
    url: Annotated[str, typer.Option(metavar="URL", help="The server, such as https://quantry.example.com.")],
    key_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A file that holds the key; - is standard input. Asked for where none is given.",
            exists=True,
            dir_okay=False,
            readable=True,
            allow_dash=True,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Keep a server and its key under a name, in a file of mode 0600. The first profile is in use from then on."""
    profile = Profile(url=checked_url(url), api_key=SecretStr(checked_key(_key(key_file))))
    path = profiles_path()
    profiles = read_profiles(path).with_profile(name, profile)
    write_profiles(path, profiles)
    if as_json:
        emit_json({"name": name, "url": profile.url, "is_current": profiles.current == name, "path": str(path)})
    else:
        say(f"{name} is kept in {path}" + (" and in use" if profiles.current == name else f"; use it: quantry config use {name}"))


@app.command("list")
def list_profiles(as_json: JsonOption = False) -> None:
    """List the profiles; their keys are never shown."""
    profiles = read_profiles(profiles_path())
    rows = [_Row(name, profile.url, profiles.current == name) for name, profile in sorted(profiles.profiles.items())]
    if as_json:
        emit_json({"data": [{"name": row.name, "url": row.url} for row in rows], "current": profiles.current})
    else:
        print_table(rows, _COLUMNS, empty="There are no profiles; make one with 'quantry config set-profile'.")


@app.command("use")
def use_profile(name: NameArgument, as_json: JsonOption = False) -> None:
    """Use a profile where nothing nearer says otherwise: an option, the environment, or a stack in this folder."""
    _change(lambda profiles: profiles.used(name))
    if as_json:
        emit_json({"current": name})
    else:
        say(f"{name} is in use; 'quantry config show' tells what holds in this folder")


@app.command("show")
def show_profile(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="[PROFILE]", autocompletion=profile_names)] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a profile; without a name, which server would be asked here and now, and where its address and key were found."""
    if name is not None:
        document = {"name": name, "url": read_profiles(profiles_path()).named(name).url, "url_from": None, "key_from": None}
    else:
        server = server_of(context)
        found = resolve_connection(server.url, server.api_key, profile=server.profile)
        document = {"name": None, "url": found.url, "url_from": found.url_from, "key_from": found.key_from}
    if as_json:
        emit_json({**document})
    else:
        print_fields(
            [
                ("profile", name),
                ("server", document["url"]),
                ("address from", document["url_from"]),
                ("key from", document["key_from"]),
                ("key", "kept, and not shown" if name is not None else None),
            ]
        )


@app.command("delete-profile")
def delete_profile(name: NameArgument, as_json: JsonOption = False) -> None:
    """Forget a profile and its key. The key itself stays good: 'quantry keys revoke' ends it."""
    _change(lambda profiles: profiles.without(name))
    if as_json:
        emit_json({"deleted": name})
    else:
        say(f"{name} is forgotten")


def _change(change: Callable[[Profiles], Profiles]) -> None:
    path = profiles_path()
    write_profiles(path, change(read_profiles(path)))


def _key(key_file: Path | None) -> str:
    """Returns a key that is read so that no list of commands or processes has it."""
    if key_file is None and not sys.stdin.isatty():
        raise ConfigurationError("there is no terminal to ask for the key on; give --key-file FILE, or --key-file - for standard input")
    if key_file is None:
        return str(typer.prompt("API key", hide_input=True))
    content = sys.stdin.buffer.read() if key_file == _STDIN else key_file.read_bytes()
    return content.decode(errors="replace").strip()  # what is no text is no key either, which is said in those words
