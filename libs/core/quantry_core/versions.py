"""Models, their immutable versions, the manifest that names every byte, lineage, and evidence."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from quantry_core.methods import Format
from quantry_core.names import FilePath, Name

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 digest in lower-case hex."""


class VersionKind(StrEnum):
    MASTER = "master"
    ADAPTER = "adapter"
    """Low-rank updates of the weights of its base, without which it is nothing."""
    MERGED = "merged"
    """16-bit weights made from others by training all of them, or by merging adapters."""
    QUANTIZED = "quantized"


class VersionState(StrEnum):
    READY = "ready"
    QUARANTINED = "quarantined"
    ARCHIVED = "archived"


class EdgeRole(StrEnum):
    """What a parent was to its child. base, adapter and teacher edges lead to versions, calibration and training to datasets."""

    BASE = "base"
    ADAPTER = "adapter"
    CALIBRATION = "calibration"
    TRAINING = "training"
    """A dataset that was learned from, or held out meanwhile to judge by."""
    TEACHER = "teacher"
    SOURCE = "source"
    """From a derived dataset to the one it was derived from."""


class EvidenceKind(StrEnum):
    GATE = "gate"
    EVALUATION = "evaluation"


class Verdict(StrEnum):
    """No data is never a pass: it is inconclusive."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


class ManifestFile(BaseModel):
    """One file of a version."""

    model_config = ConfigDict(frozen=True)

    path: FilePath
    size_bytes: int = Field(ge=0)
    sha256: Sha256


def manifest_digest(files: list[ManifestFile]) -> str:
    """Returns the SHA-256 (hex) of the canonical manifest: files sorted by path, compact JSON of path, sha256 and size."""
    rows = [[file.path, file.sha256, file.size_bytes] for file in sorted(files, key=lambda file: file.path)]
    return hashlib.sha256(json.dumps(rows, separators=(",", ":")).encode()).hexdigest()


def blob_key(sha256: str) -> str:
    """Returns a blob's key in the vault bucket."""
    return f"sha256/{sha256}"


def staging_key(job_id: str, attempt: int, path: str) -> str:
    """Returns a staged file's key in the staging bucket."""
    return f"{job_id}/{attempt}/{path}"


class LineageEdge(BaseModel):
    """An edge from a child version to what it was made from: exactly one of the two parents is set."""

    model_config = ConfigDict(frozen=True)

    role: EdgeRole
    parent_version_id: str | None = None
    parent_dataset_id: str | None = None


class Evidence(BaseModel):
    """What was measured or checked about a version. Kept for quarantined versions too."""

    model_config = ConfigDict(frozen=True)

    id: str
    version_id: str
    job_id: str
    kind: EvidenceKind
    name: str = Field(description="The gate's check, or the corpus that was evaluated.")
    verdict: Verdict
    metrics: dict[str, Any] = Field(description="Numbers by name; see docs/evidence.md for units.")
    created_at: datetime


class EvidenceDraft(BaseModel):
    """Evidence as a worker reports it, before it has an id."""

    model_config = ConfigDict(frozen=True)

    kind: EvidenceKind
    name: str
    verdict: Verdict
    metrics: dict[str, Any] = Field(default_factory=dict)


class Model(BaseModel):
    """A named line of versions."""

    model_config = ConfigDict(frozen=True)

    id: str
    project_id: str
    name: Name
    created_at: datetime
    num_versions: int
    latest_version_id: str | None = None


class VersionCard(BaseModel):
    """What a model card's front matter says of a checkpoint, as far as it is kept."""

    model_config = ConfigDict(frozen=True)

    license: str | None = None
    base_model: list[str] = Field(default_factory=list, description="Names on the Hugging Face hub.")
    languages: list[str] = Field(default_factory=list)
    pipeline_tag: str | None = None


class Version(BaseModel):
    """An immutable checkpoint. ``name@number`` and its id both name it."""

    model_config = ConfigDict(frozen=True)

    id: str
    project_id: str
    model_id: str
    model_name: str
    number: int = Field(description="1, 2, 3 ... within its model.")
    kind: VersionKind
    state: VersionState
    format: Format
    scheme: str | None = Field(description="W4A16 and the like; None for 16-bit weights and adapters.")
    dtype: str | None = Field(description="float16 or bfloat16; None where mixed, and of an adapter in float32.")
    manifest_digest: Sha256
    size_bytes: int
    weights_bytes: int = Field(description="Bytes of the *.safetensors and *.gguf files alone.")
    job_id: str
    attempt: int
    recipe: dict[str, Any]
    toolchain: dict[str, str] = Field(description="Version of every library that touched the weights.")
    card: VersionCard = Field(default_factory=VersionCard, description="What the model card said, or the master's.")
    created_at: datetime
    deleted_at: datetime | None = Field(default=None, description="Set while it can still be restored.")
    bytes_released_at: datetime | None = Field(
        default=None, description="When retention gave up its bytes: it stays quarantined, and can be read about but not loaded."
    )

    @property
    def ref(self) -> str:
        """``name@number``: how people write it."""
        return f"{self.model_name}@{self.number}"


class VersionDetail(Version):
    """A version with its files, its lineage edges and its evidence."""

    files: list[ManifestFile]
    edges: list[LineageEdge]
    evidence: list[Evidence]


class VersionDraft(BaseModel):
    """A version as a worker reports it at finish; the control plane gives it id, number and project."""

    model_config = ConfigDict(frozen=True)

    model: Name
    kind: VersionKind
    state: VersionState
    format: Format
    scheme: str | None = None
    dtype: str | None = None
    files: list[ManifestFile] = Field(min_length=1)
    edges: list[LineageEdge] = Field(default_factory=list)
    recipe: dict[str, Any] = Field(default_factory=dict)
    toolchain: dict[str, str] = Field(default_factory=dict)
    card: VersionCard = Field(default_factory=VersionCard)


class LineageNode(BaseModel):
    """One version or dataset in a lineage graph."""

    model_config = ConfigDict(frozen=True)

    id: str
    noun: str = Field(description="version or dataset")
    label: str = Field(description="name@number")
    kind: str
    state: str


class LineageLink(BaseModel):
    model_config = ConfigDict(frozen=True)

    child_id: str
    parent_id: str
    role: EdgeRole


class Lineage(BaseModel):
    """Every ancestor of a version and as many descendants as fit, the version itself included."""

    model_config = ConfigDict(frozen=True)

    version_id: str
    nodes: list[LineageNode]
    links: list[LineageLink]
    has_more: bool = Field(default=False, description="More was made from the version than is shown: the nearest, and of those the newest.")


class SealRequest(BaseModel):
    """A worker asks the registry to re-hash its staged files into the vault."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    attempt: int
    files: list[ManifestFile] = Field(min_length=1)


class SealResult(BaseModel):
    """All files are in the vault."""

    model_config = ConfigDict(frozen=True)

    manifest_digest: Sha256
    num_sealed: int = Field(description="Files hashed and moved in now.")
    num_reused: int = Field(description="Files whose bytes the vault already held.")
