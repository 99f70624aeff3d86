"""``quantry versions compare``: what tells two versions apart, in tables."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from quantry.cli.completion import version_refs
from quantry.cli.context import JsonOption, connect
from quantry.cli.output import Column, bytes_text, emit_json, print_fields, print_table, say
from quantry_core.comparisons import Comparison, EvidenceDifference, FieldDifference, VerdictDifference
from quantry_core.figure_words import SETTINGS
from quantry_core.measurements import figure_text


def compare_versions(
    context: typer.Context,
    left: Annotated[str, typer.Argument(metavar="LEFT", autocompletion=version_refs, help="ver_..., name@3, name@alias, or name.")],
    right: Annotated[
        str,
        typer.Argument(metavar="RIGHT", autocompletion=version_refs, help="What it is compared with; differences are right minus left."),
    ],
    as_json: JsonOption = False,
) -> None:
    """Show what tells two versions apart: bytes, recipe, and evidence side by side."""
    with connect(context) as client:
        comparison = client.versions.compare(left, right)
    if as_json:
        emit_json(comparison)
    else:
        print_comparison(comparison)


def print_comparison(comparison: Comparison) -> None:
    """Prints what tells two versions apart."""
    left, right = comparison.left, comparison.right
    sign = "-" if comparison.size_difference_bytes < 0 else "+"
    print_fields(
        [
            ("left", f"{left.ref}  {bytes_text(left.size_bytes)}"),
            ("right", f"{right.ref}  {bytes_text(right.size_bytes)} ({sign}{bytes_text(abs(comparison.size_difference_bytes))})"),
            ("related", f"left is {comparison.relation}" if comparison.relation in {"ancestor", "descendant"} else comparison.relation),
            ("shared", f"{bytes_text(comparison.shared_bytes)} of the right one; {comparison.num_equal_files} files are the same"),
            ("added", ", ".join(file.path for file in comparison.added) or None),
            ("removed", ", ".join(file.path for file in comparison.removed) or None),
            ("changed", ", ".join(change.left.path for change in comparison.changed) or None),
        ]
    )
    say("")
    _print_fields(comparison, left.ref, right.ref)
    if comparison.verdicts:
        say("")
        _print_verdicts(comparison, left.ref, right.ref)
    say("")
    _print_evidence(comparison, left.ref, right.ref)


def _print_fields(comparison: Comparison, left: str, right: str) -> None:
    columns: tuple[Column[FieldDifference], ...] = (
        ("field", lambda item: item.key),
        (left, lambda item: _value(item.left)),
        (right, lambda item: _value(item.right)),
    )
    print_table([*comparison.facts, *comparison.recipe, *comparison.toolchain], columns, empty="Made the same way.")


def _print_verdicts(comparison: Comparison, left: str, right: str) -> None:
    columns: tuple[Column[VerdictDifference], ...] = (
        ("evidence", lambda item: f"{item.kind} {item.name}"),
        ("against", lambda item: item.against or ""),
        (left, lambda item: item.left or "-"),
        (right, lambda item: item.right or "-"),
    )
    print_table(comparison.verdicts, columns, empty="")


def _print_evidence(comparison: Comparison, left: str, right: str) -> None:
    """Prints the figures of both; what they rest on, such as the size of a window, only where it differs."""
    columns: tuple[Column[EvidenceDifference], ...] = (
        ("on", lambda item: item.name),
        ("against", lambda item: item.against or ""),
        ("figure", lambda item: item.metric),
        (left, lambda item: figure_text(item.left)),
        (right, lambda item: figure_text(item.right)),
        ("difference", lambda item: f"{'+' if (item.difference or 0) > 0 else ''}{figure_text(item.difference)}"),
    )
    told = [item for item in comparison.evidence if item.metric not in SETTINGS or item.difference]
    print_table(told, columns, empty="Nothing was measured of either.")


def _value(value: object) -> str:
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
