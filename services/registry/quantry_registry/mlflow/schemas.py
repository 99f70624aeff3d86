"""Bodies and answers of MLflow's registry API. Fields that newer clients add are left alone, as MLflow's own server does."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from quantry_core.jobs import ImportSpec, Job, JobStatus
from quantry_core.model_notes import ModelRecord, VersionRecord
from quantry_core.version_notes import Notes
from quantry_core.versions import Version, VersionState
from quantry_store.repositories.registry_search import FACTS

ARTIFACTS_SCHEME = "mlflow-artifacts"
MODELS_FOLDER = "models"
"""The one folder that the artifact routes have: ``models/<name>/<number>/<path>``."""

Text = Annotated[str, StringConstraints(max_length=1024)]


class Stage(StrEnum):
    """MLflow's stages. Quantry knows one of them: what is put aside."""

    NONE = "None"
    STAGING = "Staging"
    PRODUCTION = "Production"
    ARCHIVED = "Archived"


class Status(StrEnum):
    PENDING = "PENDING_REGISTRATION"
    FAILED = "FAILED_REGISTRATION"
    READY = "READY"


class Asked(BaseModel):
    """Base of the bodies."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Tag(Asked):
    key: Text
    value: str = ""


class AliasTag(BaseModel):
    alias: str
    version: str


class ModelVersion(BaseModel):
    """A version as MLflow's clients know it. Times are milliseconds since 1970."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: str = Field(description="Its number; of one that is being imported, the id of the job.")
    creation_timestamp: int
    last_updated_timestamp: int
    current_stage: Stage = Stage.NONE
    description: str = ""
    source: str
    run_id: str = ""
    status: Status = Status.READY
    status_message: str = ""
    tags: list[Tag] = Field(default_factory=list)
    aliases: list[str] = Field(default_factory=list)

    @classmethod
    def of(cls, record: VersionRecord) -> Self:
        """Returns a version with its tags, what it is among them."""
        version = record.version
        is_quarantined = version.state is VersionState.QUARANTINED
        return cls(
            name=version.model_name,
            version=str(version.number),
            creation_timestamp=milliseconds(version.created_at),
            last_updated_timestamp=milliseconds(record.updated_at),
            current_stage=Stage.ARCHIVED if version.state is VersionState.ARCHIVED else Stage.NONE,
            description=record.notes,
            source=artifact_uri(version),
            status=Status.FAILED if is_quarantined else Status.READY,
            status_message=f"{version.ref} is quarantined: it did not pass its gate, or was held back since" if is_quarantined else "",
            tags=tags_of({**record.tags, **_facts(version)}),
            aliases=[*record.aliases],
        )

    @classmethod
    def of_import(cls, job: Job, spec: ImportSpec) -> Self:
        """Returns what an import that has made no version is for MLflow's clients: a version under the job's id, on its way or failed."""
        is_over = job.status in {JobStatus.FAILED, JobStatus.CANCELLED}
        created_ms = milliseconds(job.created_at)
        said = f"import job {job.id} is {job.status}"
        return cls(
            name=spec.model,
            version=job.id,
            creation_timestamp=created_ms,
            last_updated_timestamp=created_ms if job.finished_at is None else milliseconds(job.finished_at),
            source=spec.source,
            status=Status.FAILED if is_over else Status.PENDING,
            status_message=f"{said}: {job.message}" if job.message else said,
        )


class RegisteredModel(BaseModel):
    """A model as MLflow's clients know it."""

    model_config = ConfigDict(frozen=True)

    name: str
    creation_timestamp: int
    last_updated_timestamp: int
    description: str = ""
    latest_versions: list[ModelVersion] = Field(default_factory=list)
    tags: list[Tag] = Field(default_factory=list)
    aliases: list[AliasTag] = Field(default_factory=list)

    @classmethod
    def of(cls, record: ModelRecord) -> Self:
        """Returns a model with its latest version, and the latest of those that were put aside."""
        return cls(
            name=record.name,
            creation_timestamp=milliseconds(record.created_at),
            last_updated_timestamp=milliseconds(record.updated_at),
            description=record.notes,
            latest_versions=[ModelVersion.of(one) for one in record.latest],
            tags=tags_of(record.tags),
            aliases=[AliasTag(alias=alias, version=str(number)) for alias, number in record.aliases.items()],
        )


class CreateModel(Asked):
    name: Text
    tags: list[Tag] = Field(default_factory=list, max_length=256)
    description: Notes | None = None


class RenameModel(Asked):
    name: Text
    new_name: Text = ""


class UpdateModel(Asked):
    name: Text
    description: Notes | None = None


class DeleteModel(Asked):
    name: Text


class ModelTag(Asked):
    name: Text
    key: Text
    value: str = ""


class ModelTagKey(Asked):
    name: Text
    key: Text


class SetAlias(Asked):
    name: Text
    alias: Text
    version: Text


class DeleteAlias(Asked):
    name: Text
    alias: Text


class LatestVersions(Asked):
    name: Text
    stages: list[Text] = Field(default_factory=list, max_length=16)


class CreateVersion(Asked):
    name: Text
    source: Text
    run_id: Text | None = None
    run_link: Text | None = None
    model_id: Text | None = None
    tags: list[Tag] = Field(default_factory=list, max_length=256)
    description: Notes | None = None


class UpdateVersion(Asked):
    name: Text
    version: Text
    description: Notes | None = None


class MoveStage(Asked):
    name: Text
    version: Text
    stage: Text
    archive_existing_versions: bool = False


class DeleteVersion(Asked):
    name: Text
    version: Text


class VersionTag(Asked):
    name: Text
    version: Text
    key: Text
    value: str = ""


class VersionTagKey(Asked):
    name: Text
    version: Text
    key: Text


class Nothing(BaseModel):
    """An empty object: done."""


class OneModel(BaseModel):
    registered_model: RegisteredModel


class OneVersion(BaseModel):
    model_version: ModelVersion


class SomeModels(BaseModel):
    """A page of models. ``next_page_token`` is empty after the last."""

    registered_models: list[RegisteredModel]
    next_page_token: str = ""


class SomeVersions(BaseModel):
    """Versions. ``next_page_token`` is empty after the last page, and where all are told at once."""

    model_versions: list[ModelVersion]
    next_page_token: str = ""


class DownloadUri(BaseModel):
    artifact_uri: str


class FileInfo(BaseModel):
    path: str = Field(description="Within the folder that was asked for.")
    is_dir: bool
    file_size: int | None = Field(default=None, description="Bytes; None of a folder.")


class SomeFiles(BaseModel):
    files: list[FileInfo]


class ServerInfo(BaseModel):
    """What MLflow's clients ask before they use newer features."""

    store_type: str = "Quantry"
    workspaces_enabled: bool = False
    multipart_uploads_enabled: bool = False
    multipart_downloads_enabled: bool = False


def milliseconds(moment: datetime) -> int:
    """Returns a moment as MLflow writes it."""
    return int(moment.timestamp() * 1000)


def tags_of(tags: Mapping[str, str]) -> list[Tag]:
    """Returns tags as a list, by key."""
    return [Tag(key=key, value=value) for key, value in sorted(tags.items())]


def artifact_uri(version: Version) -> str:
    """Returns where MLflow's clients find a version's files, whatever address they call the server by."""
    return f"{ARTIFACTS_SCHEME}:/{MODELS_FOLDER}/{version.model_name}/{version.number}"


def _facts(version: Version) -> dict[str, str]:
    values: dict[str, str | None] = {
        "version_id": version.id,
        "kind": version.kind,
        "state": version.state,
        "format": version.format,
        "scheme": version.scheme,
        "job_id": version.job_id,
        "manifest_digest": version.manifest_digest,
    }
    return {name: value for name in FACTS if (value := values[name.removeprefix("quantry.")]) is not None}
