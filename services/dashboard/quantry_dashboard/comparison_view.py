"""Two versions side by side, as rows of tables: pure functions from a comparison to texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from quantry_core.comparisons import Comparison, EvidenceDifference, FieldDifference, Relation
from quantry_core.figure_words import SETTINGS
from quantry_core.gate import GateCheck
from quantry_core.measurements import figure_text
from quantry_core.stored_modules import StoredModule, StoredModules
from quantry_core.versions import EvidenceKind, Verdict, Version
from quantry_dashboard import words
from quantry_dashboard.version_facts import deltas_text, differing

Row: TypeAlias = tuple[str, ...]
_CHECKS = frozenset(str(check) for check in GateCheck)
_DECISIVE = SETTINGS.keys() - {
    "confidence",
    "bootstrap_blocks",
    "bootstrap_resamples",
    "judged_by",
    "margin_nats",
    "max_windows",
    "num_output_tokens",
}
"""What a figure is another one by, if it is another."""
UNLIKE = "measured differently"
THE_REFERENCE = "the reference itself"
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


class Measured(NamedTuple):
    """What was measured of two versions, as rows of three tables, and why some figures of both cannot be set against each other."""

    quality: list[Row]
    """Measured on, figure, left, right, difference; what both have beside one reference first."""
    checks: list[Row]
    """The same of what the checks of their gates counted."""
    conditions: list[Row]
    """Measured on, setting, left, right: what the figures rest on."""
    unlike: list[str]


def measured(comparison: Comparison) -> Measured:
    """Returns what was measured. Where both sides were measured otherwise, no difference is told: it would be one of the measuring."""
    groups: dict[tuple[str, str, str | None], list[EvidenceDifference]] = {}
    for one in comparison.evidence:
        groups.setdefault((one.kind, one.name, one.against), []).append(one)
    found = Measured([], [], [], [])
    # Both against one reference, on the same tokens, says more than each on its own.
    for (kind, name, against), group in sorted(groups.items(), key=lambda item: item[0][2] is None):
        on = f"{name} against {against}" if against else name
        if kind == EvidenceKind.GATE and _is_check(name):
            found.checks.extend((on, one.metric, _figure(one.left), _figure(one.right), deltas_text(one.left, one.right)) for one in group)
            continue
        settings = [one for one in group if one.metric in SETTINGS]
        found.conditions.extend((on, one.metric, _figure(one.left), _figure(one.right)) for one in settings)
        unlike = [one for one in settings if one.metric in _DECISIVE and _differs(one)]
        figures = _figure_rows(on, [one for one in group if one.metric not in SETTINGS], comparison, is_unlike=bool(unlike))
        found.quality.extend(figures)
        if unlike and any(row[-1] == UNLIKE for row in figures):
            said = ", ".join(f"{one.metric.replace('_', ' ')} {_figure(one.left)} and {_figure(one.right)}" for one in unlike)
            found.unlike.append(f"{on}: {said}. What differs between the sides may come from that alone.")
    return found


def _figure_rows(on: str, group: Sequence[EvidenceDifference], comparison: Comparison, *, is_unlike: bool) -> list[Row]:
    """Returns a row for each figure, with its interval where there is one."""
    by_name = {one.metric: one for one in group}
    ends = {end for name in by_name for end in _ends(name) if end in by_name}
    rows: list[Row] = []
    for name, one in by_name.items():
        if name in ends:
            continue
        low, high = (by_name.get(end) for end in _ends(name))
        left = _with_interval(one.left, None if low is None else low.left, None if high is None else high.left)
        right = _with_interval(one.right, None if low is None else low.right, None if high is None else high.right)
        if one.against is not None:
            left = THE_REFERENCE if one.left is None and one.against == comparison.left.ref else left
            right = THE_REFERENCE if one.right is None and one.against == comparison.right.ref else right
        has_both = one.left is not None and one.right is not None
        rows.append((on, name, left, right, UNLIKE if is_unlike and has_both else deltas_text(one.left, one.right)))
    return rows


def _ends(metric: str) -> tuple[str, str]:
    """Returns what the ends of a figure's interval are called."""
    stem, unit = (metric.removesuffix("_nats"), "_nats") if metric.endswith("_nats") else (metric, "")
    return f"{stem}_low{unit}", f"{stem}_high{unit}"


def _is_check(name: str) -> bool:
    """Tells whether a gate's evidence is of a check, and not of the quality on a corpus."""
    check, _, part = name.partition(": ")
    return check in _CHECKS and not (check == GateCheck.QUALITY and part)


def _differs(one: EvidenceDifference) -> bool:
    return one.left is not None and one.right is not None and one.left != one.right


def _figure(value: float | None) -> str:
    return "–" if value is None else figure_text(value)


def _with_interval(value: float | None, low: float | None, high: float | None) -> str:
    return _figure(value) if value is None or low is None or high is None else f"{_figure(value)} ({_figure(low)} to {_figure(high)})"


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
