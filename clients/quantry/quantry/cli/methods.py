"""``quantry methods``: what can be asked of a quantize job."""

from __future__ import annotations

import typer

from quantry.cli.context import JsonOption, connect
from quantry.cli.output import Column, emit_json, print_table
from quantry_core.methods import MethodInfo


def _group_sizes(info: MethodInfo) -> str:
    return ", ".join(f"{size}*" if size == info.default_group_size else str(size) for size in info.group_sizes)


_COLUMNS: tuple[Column[MethodInfo], ...] = (
    ("method", lambda info: info.method),
    ("schemes", lambda info: ", ".join(info.schemes)),
    ("group sizes", _group_sizes),
    ("backend", lambda info: info.backend),
    ("what it is", lambda info: f"{info.title} ({info.paper})"),
)


def show_methods(context: typer.Context, as_json: JsonOption = False) -> None:
    """List quantization methods; a * marks a default."""
    with connect(context) as client:
        methods = client.methods.list()
    if as_json:
        emit_json(methods)
    else:
        print_table(methods, _COLUMNS, empty="The server knows no methods.")
