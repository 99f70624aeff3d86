"""What an API in memory says of models, versions and datasets, and does when it is asked for something."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from factories.serving_api import page_of
from quantry_core.aliases import Alias, AliasChange
from quantry_core.cards import model_card
from quantry_core.comparisons import Relation, compare
from quantry_core.datasets import Dataset, DatasetKind, DatasetOrigin, DatasetPreview, DatasetStatistics
from quantry_core.errors import Conflict, Forbidden, NotFound, UnknownDataset, UnknownModel, UnknownVersion
from quantry_core.ids import IdPrefix, new_id
from quantry_core.keys import Role
from quantry_core.measurements import Reference
from quantry_core.methods import Format
from quantry_core.model_views import AliasTarget, EvidenceExcerpt, ListedModel, ModelFigures, VersionFigures, figures_of
from quantry_core.pages import Page
from quantry_core.stored_modules import StoredModules
from quantry_core.version_notes import ListedVersion, VersionNotes
from quantry_core.versions import (
    EdgeRole,
    Evidence,
    EvidenceKind,
    Lineage,
    LineageEdge,
    LineageLink,
    LineageNode,
    ManifestFile,
    Verdict,
    VersionDetail,
    VersionKind,
    VersionState,
)

PROJECT = "prj_0197f0a0000070008000000000000001"
MADE_AT = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
CORPUS = "kjv.test@1"


def a_version(number: int, model: str = "bard-6m", *, base: VersionDetail | None = None, **changes: Any) -> VersionDetail:
    """Returns a master, or with ``base`` what was quantized from it; ``changes`` replace fields."""
    content = f"{model}@{number}".encode()
    file = ManifestFile(path="model.safetensors", size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    fields: dict[str, Any] = {
        "id": new_id(IdPrefix.VERSION),
        "project_id": PROJECT,
        "model_id": f"mod_{model}",
        "model_name": model,
        "number": number,
        "kind": VersionKind.MASTER if base is None else VersionKind.QUANTIZED,
        "state": VersionState.READY,
        "format": Format.SAFETENSORS if base is None else Format.COMPRESSED_TENSORS,
        "scheme": None if base is None else "W4A16",
        "dtype": "float16" if base is None else None,
        "manifest_digest": hashlib.sha256(content).hexdigest(),
        "size_bytes": 12_000_000 if base is None else 4_000_000,
        "weights_bytes": 11_500_000 if base is None else 3_600_000,
        "job_id": new_id(IdPrefix.JOB),
        "attempt": 1,
        "recipe": {"source": "/models/bard"} if base is None else {"method": "gptq", "group_size": 128, "ignore": ["lm_head"]},
        "toolchain": {"torch": "2.9.0"},
        "created_at": MADE_AT + timedelta(hours=number),
        "files": [file],
        "edges": [] if base is None else [LineageEdge(role=EdgeRole.BASE, parent_version_id=base.id)],
        "evidence": [],
    }
    return VersionDetail.model_validate(fields | changes)


def evidence_of(version: VersionDetail, kind: EvidenceKind, name: str, verdict: Verdict = Verdict.PASS, **metrics: Any) -> Evidence:
    """Returns evidence about a version."""
    return Evidence(
        id=new_id(IdPrefix.EVIDENCE),
        version_id=version.id,
        job_id=version.job_id,
        kind=kind,
        name=name,
        verdict=verdict,
        metrics=metrics,
        created_at=version.created_at,
    )


def with_quality(version: VersionDetail, ratio: float, *, bits: float = 4.5, verdict: Verdict = Verdict.PASS) -> VersionDetail:
    """Returns a version with what its gate measured."""
    corpora = {
        CORPUS: {
            "perplexity_ratio": ratio,
            "perplexity_ratio_low": ratio - 0.004,
            "perplexity_ratio_high": ratio + 0.004,
            "kl_mean_nats": (ratio - 1) / 2,
            "top1_agreement": 1 - (ratio - 1) * 2,
        }
    }
    problems = {} if verdict is Verdict.PASS else {"problems": [f"perplexity_ratio {ratio:g} is more than 1.02 on {CORPUS}"]}
    found = [
        evidence_of(version, EvidenceKind.GATE, "precision", bits_per_weight=bits, bits_per_parameter=bits + 1.2),
        evidence_of(version, EvidenceKind.GATE, "quality", verdict, corpora=corpora, thresholds={"perplexity_ratio": 1.02}, **problems),
    ]
    return version.model_copy(update={"evidence": found})


def a_dataset(name: str = "notes", number: int = 1, **changes: Any) -> Dataset:
    """Returns a dataset of rows; ``changes`` replace fields."""
    fields: dict[str, Any] = {
        "id": new_id(IdPrefix.DATASET),
        "project_id": PROJECT,
        "name": name,
        "number": number,
        "kind": DatasetKind.ROWS,
        "origin": DatasetOrigin.UPLOADED,
        "sha256": hashlib.sha256(b"rows").hexdigest(),
        "size_bytes": 4,
        "statistics": DatasetStatistics(
            num_characters=4200, num_rows=42, row_characters_min=8, row_characters_mean=100, row_characters_max=900
        ),
        "created_at": MADE_AT,
    }
    return Dataset.model_validate(fields | changes)


class RegistryApi:
    """Tests set what it holds. It is asked under the lock of whoever holds it."""

    def __init__(self, versions: dict[str, VersionDetail]) -> None:
        self.versions = versions
        self.aliases: dict[str, Alias] = {}
        self.history: dict[str, list[AliasChange]] = {}
        self.notes: dict[str, VersionNotes] = {}
        self.modules: dict[str, StoredModules] = {}
        self.datasets: dict[str, Dataset] = {}
        self.previews: dict[str, DatasetPreview] = {}
        self.contents: dict[str, bytes] = {}
        """Of files of versions, by digest, where it is other than ``name@number``; and of datasets."""
        self.asked: list[tuple[str, str, Mapping[str, Any]]] = []
        """Method, path and body of what changed something."""

    def forget(self) -> None:
        """Begins anew, for the next test."""
        for kept in (self.aliases, self.history, self.notes, self.modules, self.datasets, self.previews, self.contents):
            kept.clear()
        self.asked.clear()

    def add(self, *versions: VersionDetail) -> VersionDetail:
        """Keeps versions and returns the last one."""
        self.versions.update({version.id: version for version in versions})
        return versions[-1]

    def answer(self, method: str, path: str, query: Mapping[str, str], role: Role, body: bytes) -> BaseModel | bytes | None:
        """Returns what a path below /api/v1 says, or the bytes of a file; raises QuantryError."""
        noun, *rest = path.strip("/").split("/")
        if method != "GET":
            if role is Role.VIEWER:
                raise Forbidden("this needs the role operator")
            self.asked.append((method, path, _json(body)))
        if noun == "models":
            return self._of_models(method, rest, query)
        return self._of_versions(method, rest, query) if noun == "versions" else self._of_datasets(method, rest, query, body)

    def _of_models(self, method: str, parts: Sequence[str], query: Mapping[str, str]) -> BaseModel | None:
        if not parts:
            names = dict.fromkeys(version.model_name for version in self.versions.values() if query.get("text", "") in version.model_name)
            return page_of([self._model(name) for name in names], query)
        model = self._model(parts[0])
        match parts[1:]:
            case []:
                return model
            case ["figures"]:
                return self._figures(model.name)
            case ["aliases"]:
                return Page[Alias](data=sorted(self.aliases.values(), key=lambda alias: alias.alias))
            case ["aliases", name, "history"]:
                return Page[AliasChange](data=self.history.get(name, []))
            case ["aliases", name]:
                return self._change_alias(method, model.name, name)
        raise NotFound(f"nothing answers {parts}")

    def _change_alias(self, method: str, model: str, name: str) -> Alias | None:
        previous = self.aliases.pop(name, None)
        version_id = self.asked[-1][2].get("version_id") if method == "PUT" else None
        now = datetime.now(UTC)
        change = AliasChange(
            alias=name, version_id=version_id, previous_version_id=previous and previous.version_id, key_id="key_1", created_at=now
        )
        self.history.setdefault(name, []).insert(0, change)
        if version_id is None:
            return None
        self.aliases[name] = Alias(model_name=model, alias=name, version_id=version_id, updated_at=now)
        return self.aliases[name]

    def _of_versions(self, method: str, parts: Sequence[str], query: Mapping[str, str]) -> BaseModel | bytes | None:
        if not parts:
            return page_of([self._listed(version) for version in self._found(query)], query)
        if parts == ["compare"]:
            return compare(self.version(query["left"]), self.version(query["right"]), Relation.ANCESTOR)
        version = self.version(parts[0])
        if method in {"DELETE", "POST"}:
            return self._move(version, parts[1] if method == "POST" else "delete")
        return self._about(version, method, parts[1:])

    def _about(self, version: VersionDetail, method: str, parts: Sequence[str]) -> BaseModel | bytes:
        said: BaseModel | bytes
        match parts:
            case []:
                said = version
            case ["lineage"]:
                said = self._lineage(version)
            case ["card"]:
                said = model_card(version, None, {}).encode()
            case ["modules"]:
                said = self.modules.get(version.id, StoredModules(version_id=version.id, data=[], note="Its files do not tell."))
            case ["notes"]:
                said = self._notes_of(version, method)
            case ["files", *_]:
                said = self.contents.get(version.files[0].sha256, version.ref.encode())
            case _:
                raise NotFound(f"nothing answers {parts}")
        return said

    def _notes_of(self, version: VersionDetail, method: str) -> VersionNotes:
        known = self.notes.get(version.id, VersionNotes(version_id=version.id, tags={}, notes="", updated_at=None))
        if method == "PATCH":
            change = self.asked[-1][2]
            known = known.model_copy(update={name: change[name] for name in ("tags", "notes") if name in change})
            self.notes[version.id] = known
        return known

    def _move(self, version: VersionDetail, action: str) -> VersionDetail | None:
        changes: dict[str, dict[str, Any]] = {
            "delete": {"deleted_at": datetime.now(UTC)},
            "restore": {"deleted_at": None},
            "archive": {"state": VersionState.ARCHIVED},
            "unarchive": {"state": VersionState.READY},
        }
        if action == "delete" and any(alias.version_id == version.id for alias in self.aliases.values()):
            raise Conflict(f"an alias points at {version.ref}; move or delete it first")
        self.versions[version.id] = version.model_copy(update=changes[action])
        return None if action == "delete" else self.versions[version.id]

    def _of_datasets(self, method: str, parts: Sequence[str], query: Mapping[str, str], body: bytes) -> BaseModel | bytes | None:
        if not parts:
            wanted = {name: query[name] for name in ("kind", "origin") if name in query}
            fitting = [one for one in self.datasets.values() if all(getattr(one, name) == value for name, value in wanted.items())]
            return page_of([one for one in fitting if query.get("text", "") in one.name and one.deleted_at is None], query)
        if method == "PUT":
            made = a_dataset(parts[0], sha256=hashlib.sha256(body).hexdigest(), size_bytes=len(body))
            self.contents[made.sha256] = body
            self.datasets[made.id] = made
            return made
        dataset = next((one for one in self.datasets.values() if parts[0] in {one.id, one.name, one.ref}), None)
        if dataset is None:
            raise UnknownDataset(f"there is no dataset {parts[0]!r}")
        if method in {"DELETE", "POST"}:
            deleted_at = datetime.now(UTC) if method == "DELETE" else None
            self.datasets[dataset.id] = dataset.model_copy(update={"deleted_at": deleted_at})
            return None if method == "DELETE" else self.datasets[dataset.id]
        match parts[1:]:
            case []:
                return dataset
            case ["preview"]:
                empty = DatasetPreview(dataset_id=dataset.id, ref=dataset.ref, kind=dataset.kind, items=[], has_more=False)
                return self.previews.get(dataset.id, empty)
            case ["content"]:
                return self.contents.get(dataset.sha256, b"rows")
        raise NotFound(f"nothing answers {parts}")

    def version(self, ref: str) -> VersionDetail:
        """Returns the version that an id, ``name@number`` or a name means; raises UnknownVersion."""
        newest_first = sorted(self.versions.values(), key=lambda one: -one.number)
        found = next((one for one in newest_first if ref in {one.id, one.ref, one.model_name}), None)
        if found is None:
            raise UnknownVersion(f"there is no version {ref!r}")
        return found

    def _model(self, name: str) -> ListedModel:
        versions = [version for version in self.versions.values() if version.model_name == name and version.deleted_at is None]
        if not versions:
            raise UnknownModel(f"there is no model {name!r}")
        latest = max(versions, key=lambda version: version.number)
        return ListedModel(
            id=f"mod_{name}",
            project_id=PROJECT,
            name=name,
            created_at=MADE_AT,
            num_versions=len(versions),
            latest_version_id=latest.id,
            latest_number=latest.number,
            num_quarantined=sum(version.state is VersionState.QUARANTINED for version in versions),
            size_bytes=sum(version.size_bytes for version in versions),
            aliases=[AliasTarget(alias=alias.alias, number=self.versions[alias.version_id].number) for alias in self.aliases.values()],
        )

    def _found(self, query: Mapping[str, str]) -> list[VersionDetail]:
        wanted = {name: query[name] for name in ("kind", "format", "scheme", "state") if name in query}
        if "model" in query:
            wanted["model_name"] = self._model(query["model"]).name
        found = [one for one in self.versions.values() if all(getattr(one, name) == value for name, value in wanted.items())]
        if "dataset_id" in query:
            found = [one for one in found if any(edge.parent_dataset_id == query["dataset_id"] for edge in one.edges)]
        return sorted((one for one in found if one.deleted_at is None), key=lambda one: -one.number)

    def _listed(self, version: VersionDetail) -> ListedVersion:
        notes = self._notes_of(version, "GET")
        told = version.model_dump(exclude={"files", "edges", "evidence"})
        return ListedVersion(**told, tags=notes.tags, notes=notes.notes)

    def _figures(self, model: str) -> ModelFigures:
        data = []
        for version in self._found({"model": model}):
            base_id = next((edge.parent_version_id for edge in version.edges if edge.role is EdgeRole.BASE), None)
            base = self.versions.get(base_id or "")
            excerpts = [EvidenceExcerpt(one.kind, one.name, one.metrics, one.created_at) for one in version.evidence]
            figures = figures_of(excerpts, None if base is None else Reference(base.id, base.ref))
            names = ("id", "number", "kind", "state", "format", "scheme", "dtype", "size_bytes", "weights_bytes")
            data.append(VersionFigures(**{name: getattr(version, name) for name in names}, **figures._asdict()))
        return ModelFigures(model_name=model, data=data, has_more=False)

    def _lineage(self, version: VersionDetail) -> Lineage:
        """Returns a version, what it was made from, and what was made from it at once."""
        parents = {edge.parent_version_id for edge in version.edges}
        versions = [
            one
            for one in self.versions.values()
            if one.id in {version.id, *parents} or any(edge.parent_version_id == version.id for edge in one.edges)
        ]
        made_with = {version.id, *parents}
        edges = [(one.id, edge) for one in versions for edge in one.edges if edge.parent_version_id or one.id in made_with]
        nodes = [LineageNode(id=one.id, noun="version", label=one.ref, kind=one.kind, state=one.state) for one in versions]
        used = {edge.parent_dataset_id for _, edge in edges}
        nodes += [
            LineageNode(id=one.id, noun="dataset", label=one.ref, kind=one.kind, state="ready")
            for one in self.datasets.values()
            if one.id in used
        ]
        links = [
            LineageLink(child_id=child, parent_id=edge.parent_version_id or edge.parent_dataset_id or "", role=edge.role)
            for child, edge in edges
        ]
        return Lineage(version_id=version.id, nodes=nodes, links=links)


def _json(body: bytes) -> Mapping[str, Any]:
    try:
        told = json.loads(body or b"{}")
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
