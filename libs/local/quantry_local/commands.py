"""``quantry up``, ``down``, ``status`` and ``demo``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from quantry_local.backups import backup_commands, restore
from quantry_local.checkup import checks
from quantry_local.command_line import DEFAULT_STATE_DIR, StateDir, failing_in_one_sentence
from quantry_local.demo import run_demo
from quantry_local.interrupts import Interrupted
from quantry_local.stack import Options, Stack, Up
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
) -> None:
    """Start the whole platform on this machine: Postgres, Redis, S3 and every service. Data survives a restart."""
    with failing_in_one_sentence(state_dir):
        stack = Stack(Options(state_dir, gateway_port=port, import_roots=import_root or []), typer.echo)
        running = stack.up()
        show_up(stack, running)
        if foreground:
            typer.echo("Ctrl-C stops everything.")
            stay(stack)


def down(state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """Stop the platform on this machine. Data stays."""
    with failing_in_one_sentence(state_dir):
        was_up = Stack(Options(state_dir), typer.echo).down()
        typer.echo("Everything is stopped; the data stays." if was_up else f"Nothing is running for {state_dir.resolve()}.")


def status(state_dir: StateDir = DEFAULT_STATE_DIR) -> None:
    """Show the parts of the platform on this machine. The exit code is 0 only if all of them work."""
    with failing_in_one_sentence(state_dir):
        parts = Stack(Options(state_dir)).status()
    if not parts:
        typer.echo(f"Nothing is running for {state_dir.resolve()}. `quantry up` starts it.")
        raise typer.Exit(1)
    table = Table("part", "state", "answers", "pid", "up for", "address", box=None)
    for part in parts:
        answers = "yes" if part.is_ready else "no"
        table.add_row(part.name, part.state.lower(), answers, str(part.pid or ""), f"{part.uptime_s} s", part.address)
    console().print(table)
    if not all(part.is_ready for part in parts):
        raise typer.Exit(1)


def demo(
    state_dir: Annotated[Path | None, typer.Option("--state-dir", help="Where it works; a folder of its own below .quantry/.")] = None,
) -> None:
    """Take the example model from 16-bit master to a quantized, served checkpoint on a platform of its own, and stop it again."""
    with failing_in_one_sentence(state_dir or DEFAULT_STATE_DIR):
        code = run_demo(console(), state_dir)
    raise typer.Exit(code)


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


def stay(stack: Stack) -> None:
    """Waits for a signal and stops the stack; ends by itself once somebody else stopped it."""
    try:
        while stack.is_running():
            time.sleep(WATCH_INTERVAL_S)
    except Interrupted:
        stack.down()
        typer.echo("Everything is stopped; the data stays.")
        return
    typer.echo("The stack was stopped by another command.")


def console() -> Console:
    """Returns the console for tables: wide where there is no terminal, so that nothing is cut."""
    made = Console(markup=False, highlight=False)
    return made if made.is_terminal else Console(markup=False, highlight=False, width=160)
