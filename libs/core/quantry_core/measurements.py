"""What evidence holds: figures by part, what they were compared with, and how a number is written. Pure.

Whatever shows evidence to people, be it a card, a command or a page, takes its numbers and their text from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from quantry_core.gate import GateCheck
from quantry_core.metrics import ATTENTION_METRICS
from quantry_core.thresholds import SIZE_METRICS, TASK_PREFIX, Part
from quantry_core.versions import Evidence, EvidenceKind, VersionDetail

Figure = float | int | bool | str
Figures = Mapping[str, Figure]

_EXACT_BELOW = 2**53
"""Whole numbers below it are exact as floats, and written in full."""
ATTENTION, EXTREMES, SIZE, SPEED = Part.ATTENTION, Part.EXTREMES, Part.SIZE, Part.SPEED
"""Names of evidence that is about no corpus and no task."""
VALIDATION, TRAINING, CHOICE = "validation", "training", "choice"
"""Names of evidence of a training: what was held out, before and after, and what was done. Of a measured merge: what was chosen."""
WAY_PREFIX = "way-"
"""Begins the names of evidence about each way that a measured merge tried."""
EXTREMES_PREFIX = f"{EXTREMES}."
"""Begins the names of what sums up all odd inputs, and in the quality gate those of the inputs."""
_MAPS_SETTINGS = frozenset({"num_windows", "window_tokens"})
"""What the comparison of attention maps says of itself in the quality gate."""
_QUALITY_SETTINGS = frozenset({"seed"})
"""What the quality gate says once for all its corpora."""
_NO_FIGURES = frozenset(
    {
        "against",
        "against_version_id",
        "cases",
        "concurrency",
        "continuation",
        "corpora",
        "levels",
        "name",
        "problems",
        "sampling",
        "tasks",
        "thresholds",
    }
)
"""Which version, which bounds, what was scored, words, and what ``parts`` takes apart."""


class Reference(NamedTuple):
    """The version that evidence compares with."""

    id: str
    ref: str
    """name@number"""


class EvidenceKey(NamedTuple):
    """What evidence is about. What has the same key is the same measurement, made again."""

    kind: EvidenceKind
    name: str
    reference: Reference | None


def reference_of(evidence: Evidence) -> Reference | None:
    """Returns the version that evidence compares with by its metrics ``against_version_id`` and ``against``; None: it says none.

    The gate says none: its checks compare with the version's master.
    """
    id_, ref = evidence.metrics.get("against_version_id"), evidence.metrics.get("against")
    return Reference(id_, ref) if isinstance(id_, str) and isinstance(ref, str) else None


def newest_evidence(version: VersionDetail) -> dict[EvidenceKey, Evidence]:
    """Returns the newest evidence of each check and corpus, against each reference: what was measured again counts as measured last."""
    ordered = sorted(version.evidence, key=lambda one: one.created_at)
    return {EvidenceKey(one.kind, one.name, reference_of(one)): one for one in ordered}


def parts(evidence: Evidence) -> Mapping[str, Figures]:
    """Returns the figures of evidence by what they were measured on.

    ``extremes`` has its cases and what sums them up, ``speed`` its concurrencies; the gate's ``quality`` has corpora, tasks,
    attention, odd inputs and size under the names that an evaluation gives them; a way to merge has corpora too. All other evidence
    is one part under its own name.
    """
    metrics = evidence.metrics
    if evidence.kind is EvidenceKind.GATE and evidence.name == GateCheck.QUALITY:
        return _quality_parts(metrics)
    if evidence.name == EXTREMES:
        return _cases(metrics)
    if evidence.name == SPEED:
        levels = {f"{level.get('concurrency')} at once": figures(level) for level in _mappings(metrics.get("levels"))}
        return levels | {"in all": figures(metrics)}
    found: dict[str, Figures] = {evidence.name: figures(metrics)}
    if evidence.name.startswith(WAY_PREFIX):
        found |= {f"{evidence.name}: {ref}": figures(one) for ref, one in _named(metrics.get("corpora"))}
    return found


def figures(metrics: Mapping[str, Any]) -> dict[str, Figure]:
    """Returns numbers and words among metrics, nested ones under dotted paths; no lists, and nothing about the job itself."""
    told = {key: value for key, value in metrics.items() if key not in _NO_FIGURES}
    return {key: value for key, value in flattened(told) if isinstance(value, int | float | str)}


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers among figures; true and false are none."""
    return {key: value for key, value in values.items() if isinstance(value, int | float) and not isinstance(value, bool)}


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every leaf of nested mappings under its dotted path."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def figure_text(value: Figure | None) -> str:
    """Returns a figure as it is written everywhere: whole numbers in full, others to six digits; a dash for what was not measured."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if abs(value) < _EXACT_BELOW and value == int(value):
        return str(int(value))
    return f"{value:.6g}"


def _quality_parts(metrics: Mapping[str, Any]) -> Mapping[str, Figures]:
    shared = {key: value for key, value in metrics.items() if key in _QUALITY_SETTINGS}
    found: dict[str, Figures] = {ref: figures({**one, **shared}) for ref, one in _named(metrics.get("corpora"))}
    found |= {f"{TASK_PREFIX}{name}": figures(one) for name, one in _named(metrics.get("tasks"))}
    maps = {key: value for key, value in metrics.items() if key in ATTENTION_METRICS | _MAPS_SETTINGS}
    sizes = {key: value for key, value in metrics.items() if key in SIZE_METRICS}
    found |= {name: figures(one) for name, one in ((ATTENTION, maps), (SIZE, sizes)) if one}
    return found | {f"{EXTREMES_PREFIX}{name}": one for name, one in _cases(metrics).items()}


def _cases(metrics: Mapping[str, Any]) -> dict[str, Figures]:
    """Returns the figures of odd inputs, and what sums them up."""
    cases: dict[str, Figures] = {str(case.get("name")): figures(case) for case in _mappings(metrics.get("cases"))}
    prefixed = {key: value for key, value in figures(metrics).items() if key.startswith(EXTREMES_PREFIX)}
    worst = {key.removeprefix(EXTREMES_PREFIX): value for key, value in prefixed.items()}
    return cases | ({"the worst": worst} if worst else {})


def _named(values: object) -> list[tuple[str, Mapping[str, Any]]]:
    """Returns the mappings of a mapping, sorted: a database keeps no order."""
    return sorted((str(key), value) for key, value in values.items() if isinstance(value, Mapping)) if isinstance(values, Mapping) else []


def _mappings(values: object) -> list[Mapping[str, Any]]:
    return [value for value in values if isinstance(value, Mapping)] if isinstance(values, list) else []
