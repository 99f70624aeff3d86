"""Two versions side by side: files, recipe, evidence, and how they are related. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Set
from enum import StrEnum
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.figure_words import SETTINGS, in_order, needs_reference
from quantry_core.measurements import EvidenceKey, flattened, newest_evidence, numbers, parts
from quantry_core.versions import EvidenceKind, ManifestFile, Verdict, Version, VersionDetail


class Relation(StrEnum):
    """What the left version is to the right one."""

    SAME = "same"
    ANCESTOR = "ancestor"
    DESCENDANT = "descendant"
    SIBLINGS = "siblings"
    """Neither is made from the other, but both from one version."""
    UNRELATED = "unrelated"


class ChangedFile(BaseModel):
    """A path that both versions have, with other bytes in each."""

    model_config = ConfigDict(frozen=True)

    left: ManifestFile
    right: ManifestFile


class FieldDifference(BaseModel):
    """A key that is not the same in both; None where a side does not have it."""

    model_config = ConfigDict(frozen=True)

    key: str = Field(description="Dotted path.")
    left: Any
    right: Any


class EvidenceDifference(BaseModel):
    """One metric of one check or corpus, in the newest evidence about each side."""

    model_config = ConfigDict(frozen=True)

    kind: EvidenceKind
    name: str = Field(description="The check or corpus, and which part of it: ``quality: plays.test@1``.")
    against: str | None = Field(description="What both were measured against, name@number; None for what is of each version alone.")
    metric: str
    left: float | None
    right: float | None
    difference: float | None = Field(description="Right minus left; None where a side was not measured.")


class VerdictDifference(BaseModel):
    """How the newest evidence of one check or corpus judged each side; None where there is none."""

    model_config = ConfigDict(frozen=True)

    kind: EvidenceKind
    name: str
    against: str | None = Field(description="What it was judged against, name@number; None where evidence names none.")
    left: Verdict | None
    right: Verdict | None


class Comparison(BaseModel):
    """All that tells two versions apart."""

    model_config = ConfigDict(frozen=True)

    left: Version
    right: Version
    relation: Relation
    added: list[ManifestFile] = Field(description="Files that only the right version has.")
    removed: list[ManifestFile] = Field(description="Files that only the left version has.")
    changed: list[ChangedFile]
    num_equal_files: int
    shared_bytes: int = Field(description="Of the right version's files, those whose bytes the left one holds too, under any path.")
    size_difference_bytes: int = Field(description="Right minus left.")
    facts: list[FieldDifference] = Field(description="Kind, state, format, scheme, dtype, licence.")
    recipe: list[FieldDifference]
    toolchain: list[FieldDifference]
    verdicts: list[VerdictDifference]
    evidence: list[EvidenceDifference]


def compare(left: VersionDetail, right: VersionDetail, relation: Relation) -> Comparison:
    """Returns what tells two versions apart."""
    ours = {file.path: file for file in left.files}
    theirs = {file.path: file for file in right.files}
    both = sorted(ours.keys() & theirs.keys())
    held = {file.sha256 for file in left.files}
    return Comparison(
        left=Version.model_validate(left.model_dump()),
        right=Version.model_validate(right.model_dump()),
        relation=relation,
        added=[theirs[path] for path in sorted(theirs.keys() - ours.keys())],
        removed=[ours[path] for path in sorted(ours.keys() - theirs.keys())],
        changed=[ChangedFile(left=ours[path], right=theirs[path]) for path in both if ours[path].sha256 != theirs[path].sha256],
        num_equal_files=sum(ours[path].sha256 == theirs[path].sha256 for path in both),
        shared_bytes=sum(file.size_bytes for file in right.files if file.sha256 in held),
        size_difference_bytes=right.size_bytes - left.size_bytes,
        facts=differences(_facts(left), _facts(right)),
        recipe=differences(left.recipe, right.recipe),
        toolchain=differences(left.toolchain, right.toolchain),
        verdicts=_verdicts(left, right),
        evidence=_evidence(left, right),
    )


class Descent(NamedTuple):
    """A version, and the ids of the versions that it was made from, however far back."""

    version_id: str
    ancestors: Set[str]


def relation_of(left: Descent, right: Descent) -> Relation:
    """Returns what one version is to the other."""
    if left.version_id == right.version_id:
        return Relation.SAME
    if left.version_id in right.ancestors:
        return Relation.ANCESTOR
    if right.version_id in left.ancestors:
        return Relation.DESCENDANT
    return Relation.SIBLINGS if left.ancestors & right.ancestors else Relation.UNRELATED


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[FieldDifference]:
    """Returns the keys whose values differ, nested ones as dotted paths, in order. A list is one value."""
    ours, theirs = dict(flattened(left)), dict(flattened(right))
    keys = sorted(ours.keys() | theirs.keys())
    return [FieldDifference(key=key, left=ours.get(key), right=theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)]


def _verdicts(left: VersionDetail, right: VersionDetail) -> list[VerdictDifference]:
    ours, theirs = newest_evidence(left), newest_evidence(right)
    return [
        VerdictDifference(
            kind=key.kind,
            name=key.name,
            against=None if key.reference is None else key.reference.ref,
            left=ours[key].verdict if key in ours else None,
            right=theirs[key].verdict if key in theirs else None,
        )
        for key in sorted(ours.keys() | theirs.keys(), key=_place)
    ]


def _evidence(left: VersionDetail, right: VersionDetail) -> list[EvidenceDifference]:
    ours, theirs = _measured(left), _measured(right)
    rows = []
    for key in sorted(ours.keys() | theirs.keys(), key=_place):
        mine, other = ours.get(key, {}), theirs.get(key, {})
        against = None if key.reference is None else key.reference.ref
        for metric in in_order(mine.keys() | other.keys()):
            one, two = mine.get(metric), other.get(metric)
            difference = None if one is None or two is None else two - one
            rows.append(
                EvidenceDifference(kind=key.kind, name=key.name, against=against, metric=metric, left=one, right=two, difference=difference)
            )
    return rows


def _measured(version: VersionDetail) -> dict[EvidenceKey, dict[str, float]]:
    """Returns the newest numbers by what they were measured on and against.

    What says something of the version alone, such as its perplexity, stands under no reference, whatever it was measured beside:
    so it can be compared with the same of a version that was measured alone. Settings stand beside both.
    """
    found: dict[EvidenceKey, dict[str, float]] = {}
    for key, evidence in sorted(newest_evidence(version).items(), key=lambda item: item[1].created_at):
        for part, given in parts(evidence).items():
            measured = EvidenceKey(key.kind, key.name if part == key.name else f"{key.name}: {part}", key.reference)
            values = numbers(given)
            alone = {name: value for name, value in values.items() if key.reference is None or not needs_reference(name)}
            if alone.keys() - SETTINGS.keys():
                found[measured._replace(reference=None)] = alone
            if key.reference is not None:
                found[measured] = {name: value for name, value in values.items() if needs_reference(name) or name in SETTINGS}
    return found


def _place(key: EvidenceKey) -> tuple[str, str, str]:
    return key.kind, key.name, "" if key.reference is None else key.reference.ref


def _facts(version: Version) -> dict[str, Any]:
    return {
        "kind": version.kind,
        "state": version.state,
        "format": version.format,
        "scheme": version.scheme,
        "dtype": version.dtype,
        "license": version.card.license,
    }
