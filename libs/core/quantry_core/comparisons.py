"""Two versions side by side: files, recipe, evidence, and how they are related. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.versions import Evidence, EvidenceKind, Lineage, ManifestFile, Verdict, Version, VersionDetail


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
    name: str
    metric: str
    left: float | None
    right: float | None
    difference: float | None = Field(description="Right minus left; None where a side was not measured.")


class VerdictDifference(BaseModel):
    """How the newest evidence of one check or corpus judged each side; None where there is none."""

    model_config = ConfigDict(frozen=True)

    kind: EvidenceKind
    name: str
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
        verdicts=_verdicts(newest_evidence(left), newest_evidence(right)),
        evidence=_evidence(newest_evidence(left), newest_evidence(right)),
    )


def relation_of(left: Lineage, right: Lineage) -> Relation:
    """Returns what the version of one lineage is to that of the other."""
    if left.version_id == right.version_id:
        return Relation.SAME
    above_left, above_right = ancestors(left), ancestors(right)
    if left.version_id in above_right:
        return Relation.ANCESTOR
    if right.version_id in above_left:
        return Relation.DESCENDANT
    return Relation.SIBLINGS if above_left & above_right else Relation.UNRELATED


def ancestors(lineage: Lineage) -> set[str]:
    """Returns the ids of the versions that a lineage's version was made from, however far back."""
    versions = {node.id for node in lineage.nodes if node.noun == "version"}
    found: set[str] = set()
    pending = [lineage.version_id]
    while pending:
        child = pending.pop()
        parents = {link.parent_id for link in lineage.links if link.child_id == child} & versions - found
        found |= parents
        pending.extend(parents)
    return found


def differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[FieldDifference]:
    """Returns the keys whose values differ, nested ones as dotted paths, in order. A list is one value."""
    ours, theirs = dict(flattened(left)), dict(flattened(right))
    keys = sorted(ours.keys() | theirs.keys())
    return [FieldDifference(key=key, left=ours.get(key), right=theirs.get(key)) for key in keys if ours.get(key) != theirs.get(key)]


def flattened(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields every leaf of nested mappings under its dotted path."""
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def newest_evidence(version: VersionDetail) -> dict[tuple[EvidenceKind, str], Evidence]:
    """Returns the newest evidence of each check and corpus: what was measured again counts as it was measured last."""
    return {(one.kind, one.name): one for one in sorted(version.evidence, key=lambda one: one.created_at)}


Newest = Mapping[tuple[EvidenceKind, str], Evidence]


def _verdicts(ours: Newest, theirs: Newest) -> list[VerdictDifference]:
    return [
        VerdictDifference(
            kind=kind,
            name=name,
            left=ours[kind, name].verdict if (kind, name) in ours else None,
            right=theirs[kind, name].verdict if (kind, name) in theirs else None,
        )
        for kind, name in sorted(ours.keys() | theirs.keys())
    ]


def _evidence(ours: Newest, theirs: Newest) -> list[EvidenceDifference]:
    rows = []
    for kind, name in sorted(ours.keys() | theirs.keys()):
        left = numbers(ours[kind, name].metrics) if (kind, name) in ours else {}
        right = numbers(theirs[kind, name].metrics) if (kind, name) in theirs else {}
        for metric in sorted(left.keys() | right.keys()):
            one, other = left.get(metric), right.get(metric)
            difference = None if one is None or other is None else other - one
            rows.append(EvidenceDifference(kind=kind, name=name, metric=metric, left=one, right=other, difference=difference))
    return rows


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Returns the numbers among metrics, nested ones under dotted paths."""
    return {key: value for key, value in flattened(metrics) if isinstance(value, int | float) and not isinstance(value, bool)}


def _facts(version: Version) -> dict[str, Any]:
    return {
        "kind": version.kind,
        "state": version.state,
        "format": version.format,
        "scheme": version.scheme,
        "dtype": version.dtype,
        "license": version.card.license,
    }
