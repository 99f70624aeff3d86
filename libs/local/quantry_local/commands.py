"""``quantry up``, ``down``, ``status`` and ``demo``."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from quantry.cli.context import JsonOption
from quantry.cli.output import emit_json
from quantry_local.backups import backup_commands, restore
from quantry_local.checkup import checks
from quantry_local.command_line import DEFAULT_STATE_DIR, StateDir, failing_in_one_sentence, sayer
from quantry_local.demo import run_demo
from quantry_local.interrupts import Interrupted
from quantry_local.stack import Options, PartStatus, Stack, Up
from quantry_local.state import CLIENT_FILE

__all__ = ["checks", "register"]  # what the quantry command asks a plugin for

WATCH_INTERVAL_S = 0.5

Port = Annotated[int | None, typer.Option("--port", min=1, max=65535, help="Port of the gateway; 8321, or the one used before.")]
ImportRoot = Annotated[
    list[Path] | None, typer.Option("--import-root", help="A folder that models may be imported from, beside examples/; may be repeated.")
]


def register(app: typer.Typer) -> None:
    """Adds the commands of the embedded stack to the ``quantry`` command."""
    app.command("up")(up)
    app.command("down")(down)
    app.command("status")(status)
    app.command("demo")(demo)
    app.add_typer(backup_commands, name="backup")
    app.command("restore")(restore)


def up(
    state_dir: StateDir = DEFAULT_STATE_DIR,
    port: Port = None,
    import_root: ImportRoot = None,
    foreground: Annotated[bool, typer.Option("--foreground", help="Stay, and stop everything at Ctrl-C.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Start the whole platform on this machine: Postgres, Redis, S3 and every service. Data survives a restart."""
    say = sayer(as_json)
    with failing_in_one_sentence(state_dir):
        stack = Stack(Options(state_dir, gateway_port=port, import_roots=import_root or []), say)
        running = stack.up()
        if as_json:
            emit_json(up_document(stack, running))
        else:
            show_up(stack, running)
        if foreground:
            say("Ctrl-C stops everything.")
            stay(stack, say)


def down(state_dir: StateDir = DEFAULT_STATE_DIR, as_json: JsonOption = False) -> None:
    """Stop the platform on this machine. Data stays."""
    with failing_in_one_sentence(state_dir):
        was_up = Stack(Options(state_dir), sayer(as_json)).down()
    if as_json:
        emit_json({"state_dir": str(state_dir.resolve()), "was_up": was_up})
    else:
        typer.echo("Everything is stopped; the data stays." if was_up else f"Nothing is running for {state_dir.resolve()}.")


def status(state_dir: StateDir = DEFAULT_STATE_DIR, as_json: JsonOption = False) -> None:
    """Show the parts of the platform on this machine. The exit code is 0 only if all of them work."""
    with failing_in_one_sentence(state_dir):
        parts = Stack(Options(state_dir)).status()
    if as_json:
        emit_json({"state_dir": str(state_dir.resolve()), "parts": [part._asdict() for part in parts]})
    elif parts:
        show_parts(parts)
    else:
        typer.echo(f"Nothing is running for {state_dir.resolve()}. `quantry up` starts it.")
    if not parts or not all(part.is_ready for part in parts):
        raise typer.Exit(1)


def demo(
    state_dir: Annotated[Path | None, typer.Option("--state-dir", help="Where it works; a folder of its own below .quantry/.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Take the example model from 16-bit master to a quantized, served checkpoint on a platform of its own, and stop it again."""
    with failing_in_one_sentence(state_dir or DEFAULT_STATE_DIR):
        outcome = run_demo(Console(stderr=True, markup=False, highlight=False) if as_json else console(), state_dir)
    if as_json:
        emit_json(outcome.document())
    raise typer.Exit(outcome.exit_code)


def show_parts(parts: Sequence[PartStatus]) -> None:
    """Prints a table of the parts."""
    table = Table("part", "state", "answers", "pid", "up for", "address", box=None)
    for part in parts:
        answers = "yes" if part.is_ready else "no"
        table.add_row(part.name, part.state.lower(), answers, str(part.pid or ""), f"{part.uptime_s} s", part.address)
    console().print(table)


def up_document(stack: Stack, running: Up) -> dict[str, object]:
    """Returns what ``up --json`` prints; ``new_admin_key`` is there once, when the key was made."""
    return {
        "url": running.url,
        "was_up": running.was_up,
        "addresses": running.addresses,
        "state_dir": str(stack.folders.state_dir),
        "outside": [str(path) for path in stack.folders.outside],
        "client_file": str(stack.folders.state_dir / CLIENT_FILE),
        "new_admin_key": running.new_admin_key,
    }


def show_up(stack: Stack, running: Up) -> None:
    """Prints the addresses, and the admin key when it was made now."""
    typer.echo(f"Quantry is {'already ' if running.was_up else ''}up at {running.url}")
    for name, address in running.addresses.items():
        typer.echo(f"  {name:<9} {address}")
    typer.echo(f"  state     {stack.folders.state_dir}")
    for path in stack.folders.outside:
        typer.echo(f"  and       {path}")
    client_file = stack.folders.state_dir / CLIENT_FILE
    if running.new_admin_key:
        typer.echo(f"Admin key, shown this once: {running.new_admin_key}")
    typer.echo(f"The quantry command finds address and key in {client_file}.")


def stay(stack: Stack, say: Callable[[str], None]) -> None:
    """Waits for a signal and stops the stack; ends by itself once somebody else stopped it."""
    try:
        while stack.is_running():
            time.sleep(WATCH_INTERVAL_S)
    except Interrupted:
        stack.down()
        say("Everything is stopped; the data stays.")
        return
    say("The stack was stopped by another command.")


def console() -> Console:
    """Returns the console for tables: wide where there is no terminal, so that nothing is cut."""
    made = Console(markup=False, highlight=False)
    return made if made.is_terminal else Console(markup=False, highlight=False, width=160)
