"""``quantry backup`` and ``quantry restore``: of the platform on this machine. What does it is the registry's own command, which serves
every other installation too: ``python -m quantry_registry.backup``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from quantry.cli.context import JsonOption
from quantry_local.command_line import DEFAULT_STATE_DIR, StateDir, failing_in_one_sentence, sayer
from quantry_local.stack import Options, Stack

MODULE = "quantry_registry.backup"
IN_A_BUCKET = "://"

backup_commands = typer.Typer(help="Back up the database and every blob of the platform on this machine.", no_args_is_help=True)

Place = Annotated[str, typer.Argument(metavar="PLACE", help="A folder, or s3://bucket/prefix.", show_default=False)]
Which = Annotated[str | None, typer.Option("--backup", metavar="ID", help="This one; else the newest.")]


@backup_commands.command("create")
def create(place: Place, state_dir: StateDir = DEFAULT_STATE_DIR, as_json: JsonOption = False) -> None:
    """Make a backup while the platform runs. Blobs that the place holds already are not copied again."""
    _run(state_dir, as_json, lambda stack: stack.back_up(_arguments("create", place, as_json)))


@backup_commands.command("list")
def list_backups(place: Place, state_dir: StateDir = DEFAULT_STATE_DIR, as_json: JsonOption = False) -> None:
    """List the whole backups of a place."""
    _run(state_dir, as_json, _looking(place, _arguments("list", place, as_json)))


@backup_commands.command("verify")
def verify(place: Place, backup: Which = None, state_dir: StateDir = DEFAULT_STATE_DIR, as_json: JsonOption = False) -> None:
    """Read and hash every byte of a backup. The exit code is 1 where something is damaged or missing."""
    _run(state_dir, as_json, _looking(place, [*_arguments("verify", place, as_json), *_chosen(backup)]))


@backup_commands.command("prune")
def prune(
    place: Place,
    keep: Annotated[int, typer.Option(min=1, help="The newest so many stay.")],
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: JsonOption = False,
) -> None:
    """Remove old backups, and the blobs that no other backup of the place needs. No backup may run meanwhile."""
    _run(state_dir, as_json, _looking(place, [*_arguments("prune", place, as_json), "--keep", str(keep)]))


def restore(
    place: Place,
    backup: Which = None,
    replace: Annotated[bool, typer.Option("--replace", help="Also over a platform in use: its database is removed.")] = False,
    state_dir: StateDir = DEFAULT_STATE_DIR,
    as_json: JsonOption = False,
) -> None:
    """Bring a backup back into a state directory of a platform that is down, and verify every byte of it."""
    arguments = [*_arguments("restore", place, as_json), *_chosen(backup), *(["--replace"] if replace else [])]
    _run(state_dir, as_json, lambda stack: stack.restore(arguments))
    sayer(as_json)("Restored. `quantry up` starts it; where this state directory has no admin key, that makes one and ends the one before.")


def _run(state_dir: Path, as_json: bool, work: Callable[[Stack], int]) -> None:
    with failing_in_one_sentence(state_dir):
        status = work(Stack(Options(state_dir), sayer(as_json)))
    if status:
        raise typer.Exit(status)


def _looking(place: str, arguments: list[str]) -> Callable[[Stack], int]:
    """Returns how to look at a place. A folder takes no platform for that: it may be on another machine by now."""
    if IN_A_BUCKET in place:
        return lambda stack: stack.back_up(arguments)
    return lambda _stack: subprocess.run([sys.executable, "-m", MODULE, *arguments], stdin=subprocess.DEVNULL, check=False).returncode


def _arguments(command: str, place: str, as_json: bool) -> list[str]:
    return [command, _absolute(place), *(["--json"] if as_json else [])]


def _chosen(backup: str | None) -> list[str]:
    return [] if backup is None else ["--backup", backup]


def _absolute(place: str) -> str:
    return place if IN_A_BUCKET in place else str(Path(place).expanduser().absolute())
