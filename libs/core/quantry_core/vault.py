"""Runs over the whole vault: verification and garbage collection, as the API shows them."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.versions import ManifestFile, staging_key

INTEGRITY = "integrity"
"""The gate check that a verification notes as failed on every version whose bytes it did not find as they were sealed."""


ARTIFACTS_FOLDER = ".artifacts"
"""In an attempt's staging. No file of a version lies in a folder whose name begins with a dot."""

ARTIFACT_SUFFIXES = frozenset({".json", ".jsonl", ".safetensors", ".md", ".svg"})
MAX_ARTIFACTS = 64

CHECKPOINTS_FOLDER = ".checkpoints"
MAX_CHECKPOINT_FILES = 256
MAX_STEP = 2**31 - 1


def artifact_key(job_id: str, attempt: int, path: str) -> str:
    """Returns the key in the staging bucket of a file that is kept beside a job's version."""
    return staging_key(job_id, attempt, f"{ARTIFACTS_FOLDER}/{path}")


def checkpoint_key(job_id: str, attempt: int, step: int, path: str) -> str:
    """Returns the key in the staging bucket of a file of a checkpoint. Its folder is the same one for all of a checkpoint's files."""
    return staging_key(job_id, attempt, f"{CHECKPOINTS_FOLDER}/step-{step}/{path}")


class CheckpointSeal(BaseModel):
    """A worker asks the registry to re-hash a staged checkpoint of a training job into the vault."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    job_id: str
    attempt: int
    step: int = Field(ge=0, le=MAX_STEP, description="Optimizer steps that were done.")
    files: list[ManifestFile] = Field(min_length=1)


class VaultRunKind(StrEnum):
    """verify: every blob is hashed again. collect: what nothing refers to is removed."""

    VERIFY = "verify"
    COLLECT = "collect"


class VaultRunStatus(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class VerifyRequest(BaseModel):
    """What is to be hashed again: everything, one version, or what was not looked at for some time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str | None = Field(default=None, max_length=200, description="ver_..., name@3, name@alias or name; everything where None.")
    older_than_s: float | None = Field(default=None, ge=0, description="Only bytes that were not verified for so many seconds.")


class CollectRequest(BaseModel):
    """What is to be removed from the buckets because nothing refers to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dry_run: bool = Field(default=True, description="Only say what would be removed.")
    age_s: float | None = Field(default=None, ge=0, description="Bytes that were sealed later are kept; the platform's setting where None.")


class DamagedBlob(BaseModel):
    """Bytes that are not what they were sealed as, and what is made of them. Other projects' things are counted, not named."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    size_bytes: int
    found: str = Field(description="missing, or what was read instead.")
    kept_at: str | None = Field(
        default=None, description="The key in the vault's bucket where the object lies now; None where it is missing."
    )
    versions: list[str] = Field(default_factory=list, description="name@number of each version, masters marked so.")
    datasets: list[str] = Field(default_factory=list)
    artifacts: list[str] = Field(default_factory=list, description="job_.../path")
    num_elsewhere: int = Field(default=0, description="Versions, datasets and artifacts of other projects that have these bytes too.")
    num_masters_elsewhere: int = Field(default=0, description="The masters among them.")


class VerifyReport(BaseModel):
    """What a verification found so far."""

    num_blobs: int = 0
    num_bytes: int = 0
    num_damaged: int = Field(default=0, description="Damaged or missing blobs, whoever has them.")
    damaged: list[DamagedBlob] = Field(default_factory=list, description="Those that the project that asked has something of.")
    num_masters_elsewhere: int = Field(
        default=0, description="How often a damaged blob was found to be part of a master of another project."
    )
    ready_again: list[str] = Field(
        default_factory=list,
        description="name@number of this project's versions that a verification had quarantined, and that are whole again.",
    )
    cursor: str = Field(default="", description="The last digest that was looked at: a run that is taken over goes on there.")


class CollectReport(BaseModel):
    """What a collection removed, or would remove."""

    dry_run: bool = True
    num_versions: int = Field(default=0, description="Deleted versions whose time to be restored is over.")
    num_datasets: int = Field(default=0, description="Deleted datasets whose time to be restored is over.")
    num_blobs: int = Field(default=0, description="Blobs that nothing refers to.")
    num_orphans: int = Field(default=0, description="Objects of the vault that no row knows.")
    num_incoming: int = Field(default=0, description="What never got its key.")
    num_staged_attempts: int = Field(default=0, description="Attempts that no longer hold their job.")
    num_bytes: int = Field(default=0, description="Of blobs and orphans.")
    versions: list[str] = Field(default_factory=list, description="name@number of those of the project that asked, at most 100.")
    datasets: list[str] = Field(default_factory=list, description="name@number of those of the project that asked, at most 100.")


class VaultStore(BaseModel):
    """What the bucket of the vault does, as the registry found out when it started."""

    model_config = ConfigDict(frozen=True)

    keeps_versions: bool = Field(description="What is overwritten or removed can be brought back as an older version.")
    locks_objects: bool = Field(description="Versions under retention cannot be removed.")
    retention_s: float | None = Field(default=None, description="For how long a new blob is locked; None where nothing is.")


class VaultRun(BaseModel):
    """A run over the vault, while it goes on and after it."""

    model_config = ConfigDict(frozen=True)

    id: str
    project_id: str
    kind: VaultRunKind
    status: VaultRunStatus
    request: dict[str, Any] = Field(description="What was asked: for example the age window of a collection.")
    report: dict[str, Any] = Field(description="Counts, bytes, and what was found.")
    message: str | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
