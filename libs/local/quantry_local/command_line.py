"""What every command of the embedded stack takes, and how it fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from quantry_local.errors import StackError
from quantry_local.interrupts import Interrupted, raising_interrupted
from quantry_local.stack import explain

DEFAULT_STATE_DIR = Path(".quantry")

StateDir = Annotated[
    Path, typer.Option("--state-dir", envvar="QUANTRY_STATE_DIR", help="Where the stack keeps everything.", show_default="./.quantry")
]


def sayer(as_json: bool) -> Callable[[str], None]:
    """Returns how a line for people is printed: on standard error where standard output is for a JSON document."""
    return partial(typer.echo, err=as_json)


@contextmanager
def failing_in_one_sentence(state_dir: Path) -> Iterator[None]:
    """Turns what can be expected to go wrong into one sentence and exit code 1, and a signal into its exit code."""
    try:
        with raising_interrupted():
            yield
    except StackError as error:
        typer.echo(f"quantry: {error}", err=True)
        raise typer.Exit(1) from error
    except BrokenPipeError:
        raise
    except OSError as error:
        typer.echo(f"quantry: {explain(error, state_dir)}", err=True)
        raise typer.Exit(1) from error
    except Interrupted as interrupt:
        typer.echo("quantry: interrupted" + (f"; {interrupt.outcome}" if interrupt.outcome else ""), err=True)
        raise typer.Exit(interrupt.exit_code) from interrupt
