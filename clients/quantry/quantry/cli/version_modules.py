"""``quantry versions modules`` and ``quantry models figures``: how each matrix is stored, and size beside quality of every version."""

from __future__ import annotations

from typing import Annotated

import typer

from quantry.cli.completion import model_names
from quantry.cli.context import JsonOption, connect
from quantry.cli.output import Column, bytes_text, emit_json, print_table, say, stderr
from quantry.cli.references import RefArgument
from quantry_core.model_views import VersionFigures
from quantry_core.stored_modules import StoredModule

_MODULES: tuple[Column[StoredModule], ...] = (
    ("module", lambda module: module.name),
    ("bits per weight", lambda module: f"{module.bits_per_weight:.2f}"),
    ("stored as", lambda module: module.stored_as),
    ("size", lambda module: bytes_text(module.size_bytes)),
)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _quality(version: VersionFigures) -> str:
    return ", ".join(f"{one.corpus} x{one.perplexity_ratio:.4f}" for one in version.quality if one.perplexity_ratio is not None)


_FIGURES: tuple[Column[VersionFigures], ...] = (
    ("no.", lambda version: str(version.number)),
    ("kind", lambda version: version.kind),
    ("scheme", lambda version: version.scheme or version.dtype or ""),
    ("state", lambda version: version.state),
    ("size", lambda version: bytes_text(version.size_bytes)),
    ("bits per weight", lambda version: _number(version.bits_per_weight)),
    ("perplexity against the master's", _quality),
    ("id", lambda version: version.id),
)


def show_modules(context: typer.Context, ref: RefArgument, as_json: JsonOption = False) -> None:
    """Show how each weight matrix of a version is stored: bits per weight on disk, scales included."""
    with connect(context) as client:
        stored = client.versions.modules(ref)
    if as_json:
        emit_json(stored)
    else:
        print_table(stored.data, _MODULES, empty=stored.note or "It has no weight matrices.")


def show_figures(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="MODEL", autocompletion=model_names)],
    as_json: JsonOption = False,
) -> None:
    """Show the size of each version of a model beside what was measured of its quality."""
    with connect(context) as client:
        figures = client.models.figures(name)
    if as_json:
        emit_json(figures)
        return
    print_table(figures.data, _FIGURES, empty="It has no versions.")
    if figures.has_more:
        stderr().print("There are older versions; these are the newest.")


def show_usage(context: typer.Context, as_json: JsonOption = False) -> None:
    """Show what the versions of each model take in the vault, and what sharing saves."""
    with connect(context) as client:
        usage = client.models.usage()
    if as_json:
        emit_json(usage)
        return
    for model in usage.models:
        say(f"{model.model_name}: {bytes_text(model.stored_bytes)}; {bytes_text(model.saved_bytes)} saved")
    say(f"in all: {bytes_text(usage.stored_bytes)}; {bytes_text(usage.saved_bytes)} saved: equal files are stored once")
