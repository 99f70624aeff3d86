"""Evidence as tables, for model cards and commands alike: the same rows, numbers and rounding in both. Pure.

A row is a figure, a column what it was measured on. Tables are of one reference each, which their titles name: figures against
one version never stand among those against another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple

from quantry_core.figure_words import in_order, words_of
from quantry_core.gate import GateCheck
from quantry_core.measurements import (
    ATTENTION,
    CHOICE,
    EXTREMES,
    EXTREMES_PREFIX,
    SIZE,
    SPEED,
    TRAINING,
    VALIDATION,
    WAY_PREFIX,
    Figures,
    Reference,
    figure_text,
    figures,
    newest_evidence,
    parts,
    reference_of,
)
from quantry_core.metrics import Better
from quantry_core.thresholds import TASK_PREFIX, threshold_of
from quantry_core.versions import EdgeRole, Evidence, EvidenceKind, Verdict, VersionDetail

VERDICT = "verdict"
"""The row with the verdicts."""


class Sort(StrEnum):
    """What tables are of, in the order in which they are shown."""

    HELD_OUT = "What was held out"
    TRAINING = "Training"
    MERGING = "Ways to merge"
    TEXT = "Evaluation on text"
    TASKS = "Tasks"
    ATTENTION = "Attention"
    EXTREMES = "Odd inputs"
    SIZE = "Size"
    SPEED = "Speed"


class EvidenceRow(NamedTuple):
    """One figure of a table."""

    name: str
    cells: tuple[str, ...]
    """One for each column."""
    asked: str
    """The threshold in words; empty where there is none."""
    words: str
    """What the figure is; empty where only a task knows."""


class EvidenceTable(NamedTuple):
    """The newest evidence of one sort against one reference."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[EvidenceRow, ...]
    problems: tuple[str, ...]
    """In words, what is not as it was asked for."""


class Check(NamedTuple):
    """The newest evidence of one check of the gate."""

    name: str
    verdict: Verdict
    found: str


class _Column(NamedTuple):
    """Figures that were measured on one thing."""

    evidence: Evidence
    part: str
    sort: Sort
    figures: Figures

    @property
    def heading(self) -> str:
        return self.part.removeprefix(EXTREMES_PREFIX)

    @property
    def threshold_prefix(self) -> str:
        """What stands before a figure's name in that of a threshold on it."""
        return {Sort.TASKS: f"{self.part}.", Sort.EXTREMES: EXTREMES_PREFIX, Sort.SPEED: f"{SPEED}."}.get(self.sort, "")


_SORTS: Mapping[str, Sort] = {
    VALIDATION: Sort.HELD_OUT,
    TRAINING: Sort.TRAINING,
    CHOICE: Sort.MERGING,
    ATTENTION: Sort.ATTENTION,
    EXTREMES: Sort.EXTREMES,
    SIZE: Sort.SIZE,
    SPEED: Sort.SPEED,
}
"""By the name of evidence that is about no corpus and no task."""
_OF_ITSELF = frozenset({Sort.SPEED, Sort.TRAINING, Sort.MERGING})
_BOUNDS = {Better.LOWER: "at most", Better.HIGHER: "at least"}


def evidence_tables(version: VersionDetail) -> list[EvidenceTable]:
    """Returns what was measured of a version: quality at the gate, then what was evaluated, of each sort what exists.

    Of each sort the table against the version's master comes first, those against other versions follow, what was measured of
    the version alone is last. What the other checks of the gate found is in ``checks``.
    """
    master_id = next((edge.parent_version_id for edge in version.edges if edge.role is EdgeRole.BASE), None)
    newest = sorted(newest_evidence(version).values(), key=lambda one: one.name)
    at_gate = [column for one in newest if _is_quality(one) for column in _columns(one)]
    evaluated = [column for one in newest if one.kind is EvidenceKind.EVALUATION for column in _columns(one)]
    # The verdict and the problems of the gate are the check's, not one table's.
    tables = [
        EvidenceTable(f"{sort} against the master, at the gate", _headings(alike), _rows(alike), ())
        for sort in Sort
        if (alike := [column for column in at_gate if column.sort is sort])
    ]
    for sort in Sort:
        alike = [column for column in evaluated if column.sort is sort]
        for reference in _references(alike, master_id):
            members = [column for column in alike if reference_of(column.evidence) == reference]
            tables.append(_evaluation_table(f"{sort}{_against(sort, reference, master_id)}", members))
    return tables


def checks(version: VersionDetail) -> list[Check]:
    """Returns the checks of the gate with their verdicts, and in words what each found."""
    newest = [one for key, one in newest_evidence(version).items() if key.kind is EvidenceKind.GATE]
    return [Check(one.name, one.verdict, _found(one)) for one in newest]


def _columns(evidence: Evidence) -> list[_Column]:
    return [_Column(evidence, part, _sort(evidence, part), found) for part, found in parts(evidence).items()]


def _sort(evidence: Evidence, part: str) -> Sort:
    name = evidence.name if evidence.kind is EvidenceKind.EVALUATION else part
    if name.startswith(TASK_PREFIX):
        return Sort.TASKS
    if name.startswith(WAY_PREFIX):
        return Sort.MERGING
    return Sort.EXTREMES if name.startswith(EXTREMES_PREFIX) else _SORTS.get(name, Sort.TEXT)


def _evaluation_table(title: str, columns: Sequence[_Column]) -> EvidenceTable:
    """Returns a table with verdicts: of each column, or in the title where one is of all columns."""
    members = {column.evidence.id: column.evidence for column in columns}
    rows = _rows(columns)
    if any(_is_judged(one) for one in members.values()):
        if len(members) == len(columns):
            rows += (EvidenceRow(VERDICT, tuple(column.evidence.verdict for column in columns), "", ""),)
        else:
            title = f"{title}: {', '.join(dict.fromkeys(one.verdict for one in members.values()))}"
    problems = tuple(f"{one.name}: {problem}" for one in members.values() for problem in _problems(one))
    return EvidenceTable(title, _headings(columns), rows, problems)


def _headings(columns: Sequence[_Column]) -> tuple[str, ...]:
    return tuple(column.heading for column in columns)


def _rows(columns: Sequence[_Column]) -> tuple[EvidenceRow, ...]:
    return tuple(_row(name, columns) for name in in_order(name for column in columns for name in column.figures))


def _row(name: str, columns: Sequence[_Column]) -> EvidenceRow:
    bounds = [bound for column in columns if name in column.figures and (bound := _bound(name, column)) is not None]
    cells = tuple(figure_text(column.figures.get(name)) for column in columns)
    return EvidenceRow(name, cells, ", ".join(dict.fromkeys(bounds)), words_of(name))


def _bound(name: str, column: _Column) -> str | None:
    threshold = f"{column.threshold_prefix}{name}"
    bound = _thresholds(column.evidence).get(threshold)
    return f"{_BOUNDS[threshold_of(threshold).better]} {figure_text(bound)}" if isinstance(bound, int | float) else None


def _thresholds(evidence: Evidence) -> Mapping[str, Any]:
    thresholds = evidence.metrics.get("thresholds")
    return thresholds if isinstance(thresholds, Mapping) else {}


def _problems(evidence: Evidence) -> list[str]:
    problems = evidence.metrics.get("problems")
    return [str(problem) for problem in problems] if isinstance(problems, list) else []


def _found(check: Evidence) -> str:
    """Returns a check's figures and problems; the figures of the quality check have tables."""
    return "; ".join([*([] if _is_quality(check) else _told(check)), *_problems(check)])


def _told(check: Evidence) -> list[str]:
    told = figures(check.metrics)
    lists = {name: value for name, value in check.metrics.items() if name != "problems" and isinstance(value, list) and value}
    words = [f"{name} {figure_text(told[name])}" for name in sorted(told) if name != "num_problems"]
    return words + [f"{name} {', '.join(map(str, lists[name]))}" for name in sorted(lists)]


def _is_quality(evidence: Evidence) -> bool:
    return evidence.kind is EvidenceKind.GATE and evidence.name == GateCheck.QUALITY


def _is_judged(evidence: Evidence) -> bool:
    """Tells whether a verdict says anything: where nothing was asked for, it is that nothing was."""
    return evidence.verdict is not Verdict.INCONCLUSIVE or bool(_thresholds(evidence))


def _references(columns: Sequence[_Column], master_id: str | None) -> list[Reference | None]:
    """Returns what columns compare with, the master first, None for those that compare with nothing last."""
    found = {reference_of(column.evidence) for column in columns}
    named = sorted((one for one in found if one is not None), key=lambda one: (one.id != master_id, one.ref, one.id))
    return [*named, None] if None in found else [*named]


def _against(sort: Sort, reference: Reference | None, master_id: str | None) -> str:
    """Returns the end of a table's title. Speed and what was done are always of the version alone, ways to merge of no version yet."""
    if reference is None:
        return "" if sort in _OF_ITSELF else ", this version alone"
    return f" against {'the master ' if reference.id == master_id else ''}{reference.ref}"
