"""Two versions side by side, as rows of tables: pure functions from a comparison to texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from quantry_core.comparisons import Comparison, FieldDifference, Relation
from quantry_core.figure_words import SETTINGS
from quantry_core.gate import GateCheck
from quantry_core.measurements import figure_text
from quantry_core.stored_modules import StoredModule, StoredModules
from quantry_core.versions import Verdict, Version
from quantry_dashboard import words
from quantry_dashboard.version_facts import deltas_text, differing

Row: TypeAlias = tuple[str, ...]
_CHECKS = frozenset(str(check) for check in GateCheck)
SAME_BITS = 0.005
"""Bits per weight that make no difference: a scale more or less in a large module."""

_RELATIONS = {
    Relation.SAME: "They are the same version.",
    Relation.ANCESTOR: "{right} was made from {left}.",
    Relation.DESCENDANT: "{left} was made from {right}.",
    Relation.SIBLINGS: "Both were made from one version.",
    Relation.UNRELATED: "Neither has to do with the other.",
}


def relation_text(comparison: Comparison) -> str:
    """Returns what one version is to the other."""
    return _RELATIONS[comparison.relation].format(left=comparison.left.ref, right=comparison.right.ref)


def fact_rows(comparison: Comparison) -> list[Row]:
    """Returns what both are, alike or not."""

    def of(version: Version) -> Row:
        return (
            version.kind,
            version.state,
            version.format,
            version.scheme or "–",
            version.dtype or "–",
            words.moment_text(version.created_at),
            words.short_id(version.job_id),
        )

    names = ("kind", "state", "format", "scheme", "dtype", "made", "by job")
    return list(zip(names, of(comparison.left), of(comparison.right), strict=True))


def size_rows(comparison: Comparison) -> list[Row]:
    """Returns what both take, and what they share."""
    left, right = comparison.left, comparison.right
    rows = [
        (
            "weights",
            words.bytes_text(left.weights_bytes),
            words.bytes_text(right.weights_bytes),
            _share(left.weights_bytes, right.weights_bytes),
        ),
        ("all files", words.bytes_text(left.size_bytes), words.bytes_text(right.size_bytes), _share(left.size_bytes, right.size_bytes)),
        ("files of its own", str(len(comparison.removed)), str(len(comparison.added)), ""),
        ("files that differ", str(len(comparison.changed)), str(len(comparison.changed)), ""),
        ("files alike", str(comparison.num_equal_files), str(comparison.num_equal_files), words.bytes_text(comparison.shared_bytes)),
    ]
    return [row for row in rows if row[1] != "0" or row[2] != "0"]


def verdict_rows(comparison: Comparison) -> list[Row]:
    """Returns how each check or corpus judged both."""

    def said(verdict: Verdict | None) -> str:
        return "–" if verdict is None else verdict

    return [
        (f"{one.name} against {one.against}" if one.against else f"{one.name} ({one.kind})", said(one.left), said(one.right))
        for one in comparison.verdicts
    ]


def evidence_rows(comparison: Comparison) -> list[Row]:
    """Returns the figures that were measured of either side; settings only where they differ.

    What a check of one side's gate counted is left out: there is nothing beside it, and its verdict stands with the verdicts.
    """
    rows: list[Row] = []
    for one in comparison.evidence:
        if one.metric in SETTINGS and one.left == one.right:
            continue
        if one.name in _CHECKS and None in (one.left, one.right):
            continue
        measured_on = f"{one.name} against {one.against}" if one.against else one.name
        rows.append((measured_on, one.metric, figure_text(one.left), figure_text(one.right), deltas_text(one.left, one.right)))
    return rows


def field_rows(differences: Sequence[FieldDifference]) -> list[Row]:
    """Returns the fields that are not alike."""
    return [(one.key, *differing(one.left, one.right)) for one in differences]


def module_headings(comparison: Comparison) -> Row:
    """Returns the headings of module_rows."""
    left, right = comparison.left.ref, comparison.right.ref
    return ("Module", f"{left}, bits", f"{right}, bits", f"{left}, stored as", f"{right}, stored as")


def module_rows(left: StoredModules, right: StoredModules) -> list[Row]:
    """Returns the modules that are stored otherwise, or on one side alone; those of many layers that are alike in one row."""
    ours, theirs = ({module.name: module for module in side.data} for side in (left, right))
    rows: dict[Row, list[str]] = {}
    for name in dict.fromkeys([*ours, *theirs]):
        mine, other = ours.get(name), theirs.get(name)
        if mine is not None and other is not None and _is_alike(mine, other):
            continue
        cells = (_bits(mine), _bits(other), "–" if mine is None else mine.stored_as, "–" if other is None else other.stored_as)
        key = (_without_layer(name), *cells)
        rows.setdefault(key, []).append(name)
    return [(_named(key[0], names), *key[1:]) for key, names in rows.items()]


def _is_alike(one: StoredModule, other: StoredModule) -> bool:
    return one.stored_as == other.stored_as and abs(one.bits_per_weight - other.bits_per_weight) < SAME_BITS


def _bits(module: StoredModule | None) -> str:
    return "–" if module is None else f"{module.bits_per_weight:.2f}"


def _without_layer(name: str) -> str:
    return ".".join("*" if part.isdecimal() else part for part in name.split("."))


def _named(pattern: str, names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{pattern} ({len(names)} modules)"


def _share(left: int, right: int) -> str:
    return f"{right / left:.1%} of the left" if left else "–"
