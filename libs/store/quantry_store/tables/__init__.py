"""Every table of the one database. Importing this package registers them all on ``Base.metadata``."""

from quantry_store.tables.audit import ROUTE_REVISION_ID, AuditAnchorRow, AuditChainRow, AuditRow, RouteRevisionRow
from quantry_store.tables.base import Base
from quantry_store.tables.checkpoints import CheckpointSealRow, JobCheckpointFileRow, JobCheckpointRow
from quantry_store.tables.datasets import BlobRow, DatasetRow
from quantry_store.tables.deployments import (
    DeploymentAdapterRow,
    DeploymentRow,
    ReleaseRow,
    ReplicaRow,
    RolloutRow,
    ServingPeriodRow,
)
from quantry_store.tables.idempotency import IdempotencyKeyRow
from quantry_store.tables.jobs import JobEventRow, JobNeedRow, JobRow
from quantry_store.tables.keys import KeyRow
from quantry_store.tables.models import (
    AliasChangeRow,
    AliasRow,
    EvidenceRow,
    LineageEdgeRow,
    ModelNotesRow,
    ModelRow,
    VersionFileRow,
    VersionNotesRow,
    VersionRow,
)
from quantry_store.tables.pipelines import PipelineRow
from quantry_store.tables.projects import ProjectRow
from quantry_store.tables.retention import RetentionCountRow, RetentionRunRow
from quantry_store.tables.schedules import ScheduleRow, ScheduleRunRow
from quantry_store.tables.seals import ArtifactSealRow, SealRow
from quantry_store.tables.traffic import CapturedPromptRow, TrafficWindowRow
from quantry_store.tables.vault import JobArtifactRow, UploadFileRow, UploadRow, VaultRunRow
from quantry_store.tables.webhooks import WebhookAttemptRow, WebhookDeliveryRow, WebhookRow
from quantry_store.tables.workers import EnrolmentRow, WorkerHostRow, WorkerRow

__all__ = [
    "ROUTE_REVISION_ID",
    "AliasChangeRow",
    "AliasRow",
    "ArtifactSealRow",
    "AuditAnchorRow",
    "AuditChainRow",
    "AuditRow",
    "Base",
    "BlobRow",
    "CapturedPromptRow",
    "CheckpointSealRow",
    "DatasetRow",
    "DeploymentAdapterRow",
    "DeploymentRow",
    "EnrolmentRow",
    "EvidenceRow",
    "IdempotencyKeyRow",
    "JobArtifactRow",
    "JobCheckpointFileRow",
    "JobCheckpointRow",
    "JobEventRow",
    "JobNeedRow",
    "JobRow",
    "KeyRow",
    "LineageEdgeRow",
    "ModelNotesRow",
    "ModelRow",
    "PipelineRow",
    "ProjectRow",
    "ReleaseRow",
    "ReplicaRow",
    "RetentionCountRow",
    "RetentionRunRow",
    "RolloutRow",
    "RouteRevisionRow",
    "ScheduleRow",
    "ScheduleRunRow",
    "SealRow",
    "ServingPeriodRow",
    "TrafficWindowRow",
    "UploadFileRow",
    "UploadRow",
    "VaultRunRow",
    "VersionFileRow",
    "VersionNotesRow",
    "VersionRow",
    "WebhookAttemptRow",
    "WebhookDeliveryRow",
    "WebhookRow",
    "WorkerHostRow",
    "WorkerRow",
]
