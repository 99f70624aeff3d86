"""Who may call which address: every route of the control plane is in this one table, and a service refuses to start with another.

``quantry_http.auth`` looks the matched route up here; nothing else decides by role.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from quantry_core.keys import Identity, Role, role_covers


class Access(StrEnum):
    """What is needed where no role of a project says it."""

    ANYONE = "anyone"
    """No key: who asks is not looked at."""
    ANY_KEY = "any key"
    """A valid key of any role, machines included."""
    PLATFORM_ADMIN = "platform admin"
    """An admin's key of the platform project."""


Need = Role | Access
"""A role means: a key of that role, or of one that covers it."""

ANYONE, ANY_KEY, PLATFORM_ADMIN = Access.ANYONE, Access.ANY_KEY, Access.PLATFORM_ADMIN
VIEWER, OPERATOR, ADMIN, WORKER, GATEWAY = Role.VIEWER, Role.OPERATOR, Role.ADMIN, Role.WORKER, Role.GATEWAY

PERMISSIONS: Final[Mapping[tuple[str, str], Need]] = {
    # Every service.
    ("GET", "/healthz"): ANYONE,
    ("GET", "/livez"): ANYONE,
    ("GET", "/metrics"): ANYONE,
    ("GET", "/api/v1/openapi.json"): ANYONE,
    ("GET", "/api/v1/registry/openapi.json"): ANYONE,
    # The api.
    ("GET", "/internal/v1/demand/{queue}"): ANYONE,
    ("POST", "/api/v1/jobs/estimate"): VIEWER,
    ("POST", "/api/v1/jobs"): OPERATOR,
    ("GET", "/api/v1/jobs"): VIEWER,
    ("GET", "/api/v1/jobs/{job_id}"): VIEWER,
    ("POST", "/api/v1/jobs/{job_id}/cancel"): OPERATOR,
    ("POST", "/api/v1/jobs/{job_id}/retry"): OPERATOR,
    ("GET", "/api/v1/jobs/{job_id}/events"): VIEWER,
    ("GET", "/api/v1/jobs/{job_id}/checkpoints"): VIEWER,
    ("GET", "/api/v1/jobs/{job_id}/curve"): VIEWER,
    ("GET", "/api/v1/jobs/{job_id}/log"): VIEWER,
    ("POST", "/api/v1/pipelines"): OPERATOR,
    ("GET", "/api/v1/pipelines"): VIEWER,
    ("GET", "/api/v1/pipelines/{pipeline_id}"): VIEWER,
    ("POST", "/api/v1/pipelines/{pipeline_id}/cancel"): OPERATOR,
    ("POST", "/api/v1/pipelines/{pipeline_id}/retry"): OPERATOR,
    ("POST", "/api/v1/schedules"): OPERATOR,
    ("POST", "/api/v1/schedules/preview"): VIEWER,
    ("GET", "/api/v1/schedules"): VIEWER,
    ("GET", "/api/v1/schedules/{schedule_id}"): VIEWER,
    ("PATCH", "/api/v1/schedules/{schedule_id}"): OPERATOR,
    ("DELETE", "/api/v1/schedules/{schedule_id}"): OPERATOR,
    ("POST", "/api/v1/schedules/{schedule_id}/run"): OPERATOR,
    ("GET", "/api/v1/schedules/{schedule_id}/runs"): VIEWER,
    ("POST", "/v1/fine_tuning/jobs"): OPERATOR,
    ("GET", "/v1/fine_tuning/jobs"): VIEWER,
    ("GET", "/v1/fine_tuning/jobs/{job_id}"): VIEWER,
    ("POST", "/v1/fine_tuning/jobs/{job_id}/cancel"): OPERATOR,
    ("GET", "/v1/fine_tuning/jobs/{job_id}/events"): VIEWER,
    ("GET", "/v1/fine_tuning/jobs/{job_id}/checkpoints"): VIEWER,
    ("PUT", "/api/v1/execution/workers/{worker_id}"): WORKER,
    ("POST", "/api/v1/execution/next"): WORKER,
    ("POST", "/api/v1/execution/jobs/{job_id}/heartbeat"): WORKER,
    ("POST", "/api/v1/execution/jobs/{job_id}/events"): WORKER,
    ("POST", "/api/v1/execution/jobs/{job_id}/checkpoints"): WORKER,
    ("POST", "/api/v1/execution/jobs/{job_id}/finish"): WORKER,
    ("GET", "/api/v1/workers"): VIEWER,
    ("GET", "/api/v1/queues"): VIEWER,
    ("GET", "/api/v1/platform"): VIEWER,
    ("GET", "/api/v1/worker-hosts"): PLATFORM_ADMIN,
    ("DELETE", "/api/v1/worker-hosts/{host_id}"): PLATFORM_ADMIN,
    ("POST", "/api/v1/worker-enrolments"): PLATFORM_ADMIN,
    ("GET", "/api/v1/worker-enrolments"): PLATFORM_ADMIN,
    ("DELETE", "/api/v1/worker-enrolments/{enrolment_id}"): PLATFORM_ADMIN,
    # The one-time token in its body is what it needs.
    ("POST", "/api/v1/enrol"): ANYONE,
    ("POST", "/api/v1/execution/key/rotate"): WORKER,
    ("GET", "/api/v1/project"): VIEWER,
    ("GET", "/api/v1/projects"): PLATFORM_ADMIN,
    ("POST", "/api/v1/projects"): PLATFORM_ADMIN,
    ("GET", "/api/v1/projects/{project}"): PLATFORM_ADMIN,
    ("PATCH", "/api/v1/projects/{project}"): PLATFORM_ADMIN,
    ("GET", "/api/v1/deployments"): VIEWER,
    ("GET", "/api/v1/deployments/{name}"): VIEWER,
    ("GET", "/api/v1/deployments/{name}/rollouts"): VIEWER,
    ("GET", "/api/v1/deployments/{name}/releases"): VIEWER,
    ("POST", "/api/v1/deployments/{name}/rollback"): OPERATOR,
    ("GET", "/api/v1/deployments/{name}/history"): VIEWER,
    ("GET", "/api/v1/deployments/{name}/at"): VIEWER,
    ("GET", "/api/v1/deployments/{name}/diff"): VIEWER,
    ("GET", "/api/v1/deployments/{name}/capture"): VIEWER,
    ("PUT", "/api/v1/deployments/{name}/capture"): OPERATOR,
    ("DELETE", "/api/v1/deployments/{name}/capture"): OPERATOR,
    ("GET", "/api/v1/deployments/{name}/adapters"): VIEWER,
    ("GET", "/api/v1/deployments/{name}/adapters/{adapter}"): VIEWER,
    ("PUT", "/api/v1/deployments/{name}/adapters/{adapter}"): OPERATOR,
    ("DELETE", "/api/v1/deployments/{name}/adapters/{adapter}"): OPERATOR,
    ("POST", "/api/v1/deployments/{name}/stop"): OPERATOR,
    ("POST", "/api/v1/deployments/{name}/start"): OPERATOR,
    ("POST", "/api/v1/rollouts"): OPERATOR,
    ("GET", "/api/v1/rollouts"): VIEWER,
    ("GET", "/api/v1/rollouts/{rollout_id}"): VIEWER,
    ("GET", "/api/v1/rollouts/{rollout_id}/traffic"): VIEWER,
    ("GET", "/api/v1/rollouts/{rollout_id}/traffic/spans"): VIEWER,
    ("POST", "/api/v1/rollouts/{rollout_id}/pause"): OPERATOR,
    ("POST", "/api/v1/rollouts/{rollout_id}/resume"): OPERATOR,
    ("POST", "/api/v1/rollouts/{rollout_id}/promote"): OPERATOR,
    ("POST", "/api/v1/rollouts/{rollout_id}/abort"): OPERATOR,
    ("POST", "/api/v1/rollouts/{rollout_id}/rollback"): OPERATOR,
    ("GET", "/api/v1/whoami"): ANY_KEY,
    ("GET", "/api/v1/keys"): ADMIN,
    ("POST", "/api/v1/keys"): ADMIN,
    ("GET", "/api/v1/keys/{key_id}"): ADMIN,
    ("POST", "/api/v1/keys/{key_id}/rotate"): ADMIN,
    ("DELETE", "/api/v1/keys/{key_id}"): ADMIN,
    # The provider's token in its body is what it needs.
    ("POST", "/api/v1/sessions"): ANYONE,
    ("DELETE", "/api/v1/sessions/current"): VIEWER,
    ("GET", "/api/v1/audit"): ADMIN,
    ("GET", "/api/v1/audit/verify"): ADMIN,
    ("GET", "/api/v1/methods"): VIEWER,
    ("GET", "/api/v1/methods/{method}"): VIEWER,
    ("GET", "/internal/v1/routes"): GATEWAY,
    ("POST", "/internal/v1/traffic"): GATEWAY,
    ("POST", "/internal/v1/captures"): GATEWAY,
    ("POST", "/api/v1/webhooks"): OPERATOR,
    ("GET", "/api/v1/webhooks"): VIEWER,
    ("GET", "/api/v1/webhooks/{webhook_id}"): VIEWER,
    ("PATCH", "/api/v1/webhooks/{webhook_id}"): OPERATOR,
    ("DELETE", "/api/v1/webhooks/{webhook_id}"): OPERATOR,
    ("POST", "/api/v1/webhooks/{webhook_id}/rotate-secret"): OPERATOR,
    ("POST", "/api/v1/webhooks/{webhook_id}/test"): OPERATOR,
    ("GET", "/api/v1/webhooks/{webhook_id}/deliveries"): OPERATOR,
    ("GET", "/api/v1/webhooks/{webhook_id}/deliveries/{delivery_id}"): OPERATOR,
    ("POST", "/api/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver"): OPERATOR,
    ("GET", "/api/v1/retention"): VIEWER,
    ("GET", "/api/v1/retention/runs"): PLATFORM_ADMIN,
    ("GET", "/api/v1/retention/runs/{run_id}"): PLATFORM_ADMIN,
    ("POST", "/api/v1/retention/run"): PLATFORM_ADMIN,
    # The registry.
    ("GET", "/api/v1/models"): VIEWER,
    ("GET", "/api/v1/models/{name}"): VIEWER,
    ("GET", "/api/v1/models/{name}/figures"): VIEWER,
    ("GET", "/api/v1/models/{name}/notes"): VIEWER,
    ("PATCH", "/api/v1/models/{name}/notes"): OPERATOR,
    ("GET", "/api/v1/models/{name}/aliases"): VIEWER,
    ("GET", "/api/v1/models/{name}/aliases/{alias}"): VIEWER,
    ("PUT", "/api/v1/models/{name}/aliases/{alias}"): OPERATOR,
    ("DELETE", "/api/v1/models/{name}/aliases/{alias}"): OPERATOR,
    ("GET", "/api/v1/models/{name}/aliases/{alias}/history"): VIEWER,
    ("GET", "/api/v1/vault/usage"): VIEWER,
    ("GET", "/api/v1/versions"): VIEWER,
    ("GET", "/api/v1/versions/compare"): VIEWER,
    ("GET", "/api/v1/versions/{ref}"): VIEWER,
    ("GET", "/api/v1/versions/{ref}/lineage"): VIEWER,
    ("GET", "/api/v1/versions/{ref}/lineage.svg"): VIEWER,
    ("GET", "/api/v1/versions/{ref}/lineage.mmd"): VIEWER,
    ("GET", "/api/v1/versions/{ref}/card"): VIEWER,
    ("GET", "/api/v1/versions/{ref}/modules"): VIEWER,
    ("GET", "/api/v1/versions/{ref}/notes"): VIEWER,
    ("PATCH", "/api/v1/versions/{ref}/notes"): OPERATOR,
    ("GET", "/api/v1/versions/{ref}/files/{path}"): VIEWER,
    ("HEAD", "/api/v1/versions/{ref}/files/{path}"): VIEWER,
    ("DELETE", "/api/v1/versions/{version_id}"): OPERATOR,
    ("POST", "/api/v1/versions/{version_id}/restore"): OPERATOR,
    ("POST", "/api/v1/versions/{version_id}/archive"): OPERATOR,
    ("POST", "/api/v1/versions/{version_id}/unarchive"): OPERATOR,
    ("GET", "/api/v1/datasets"): VIEWER,
    ("GET", "/api/v1/datasets/{ref}"): VIEWER,
    ("GET", "/api/v1/datasets/{ref}/preview"): VIEWER,
    ("GET", "/api/v1/datasets/{ref}/content"): VIEWER,
    ("PUT", "/api/v1/datasets/{name}"): OPERATOR,
    ("POST", "/api/v1/datasets/{name}/derive"): OPERATOR,
    ("DELETE", "/api/v1/datasets/{dataset_id}"): OPERATOR,
    ("POST", "/api/v1/datasets/{dataset_id}/restore"): OPERATOR,
    ("POST", "/api/v1/deployments/{name}/capture/dataset"): OPERATOR,
    ("POST", "/api/v1/uploads"): OPERATOR,
    ("GET", "/api/v1/uploads"): VIEWER,
    ("GET", "/api/v1/uploads/{upload_id}"): VIEWER,
    ("PUT", "/api/v1/uploads/{upload_id}/files/{path}"): OPERATOR,
    ("DELETE", "/api/v1/uploads/{upload_id}"): OPERATOR,
    ("POST", "/api/v1/seals"): WORKER,
    ("POST", "/api/v1/seals/artifacts"): WORKER,
    ("POST", "/api/v1/seals/checkpoints"): WORKER,
    ("GET", "/api/v1/jobs/{job_id}/artifacts"): VIEWER,
    ("GET", "/api/v1/jobs/{job_id}/artifacts/{path}"): VIEWER,
    ("GET", "/api/v1/jobs/{job_id}/checkpoints/{step}/files"): VIEWER,
    ("GET", "/api/v1/jobs/{job_id}/checkpoints/{step}/files/{path}"): VIEWER,
    ("POST", "/api/v1/vault/verify"): ADMIN,
    ("POST", "/api/v1/vault/collect"): PLATFORM_ADMIN,
    ("GET", "/api/v1/vault/store"): VIEWER,
    ("GET", "/api/v1/vault/runs"): ADMIN,
    ("GET", "/api/v1/vault/runs/{run_id}"): ADMIN,
    ("POST", "/v1/files"): OPERATOR,
    ("GET", "/v1/files"): VIEWER,
    ("GET", "/v1/files/{file_id}"): VIEWER,
    ("GET", "/v1/files/{file_id}/content"): VIEWER,
    ("DELETE", "/v1/files/{file_id}"): OPERATOR,
    # The registry, as MLflow's client asks it.
    ("GET", "/mlflow/api/3.0/mlflow/server-info"): VIEWER,
    ("POST", "/mlflow/api/2.0/mlflow/registered-models/create"): OPERATOR,
    ("GET", "/mlflow/api/2.0/mlflow/registered-models/get"): VIEWER,
    ("POST", "/mlflow/api/2.0/mlflow/registered-models/rename"): OPERATOR,
    ("PATCH", "/mlflow/api/2.0/mlflow/registered-models/update"): OPERATOR,
    ("DELETE", "/mlflow/api/2.0/mlflow/registered-models/delete"): OPERATOR,
    ("GET", "/mlflow/api/2.0/mlflow/registered-models/search"): VIEWER,
    ("POST", "/mlflow/api/2.0/mlflow/registered-models/get-latest-versions"): VIEWER,
    ("GET", "/mlflow/api/2.0/mlflow/registered-models/get-latest-versions"): VIEWER,
    ("POST", "/mlflow/api/2.0/mlflow/registered-models/set-tag"): OPERATOR,
    ("DELETE", "/mlflow/api/2.0/mlflow/registered-models/delete-tag"): OPERATOR,
    ("POST", "/mlflow/api/2.0/mlflow/registered-models/alias"): OPERATOR,
    ("DELETE", "/mlflow/api/2.0/mlflow/registered-models/alias"): OPERATOR,
    ("GET", "/mlflow/api/2.0/mlflow/registered-models/alias"): VIEWER,
    ("POST", "/mlflow/api/2.0/mlflow/model-versions/create"): OPERATOR,
    ("GET", "/mlflow/api/2.0/mlflow/model-versions/get"): VIEWER,
    ("PATCH", "/mlflow/api/2.0/mlflow/model-versions/update"): OPERATOR,
    ("POST", "/mlflow/api/2.0/mlflow/model-versions/transition-stage"): OPERATOR,
    ("DELETE", "/mlflow/api/2.0/mlflow/model-versions/delete"): OPERATOR,
    ("GET", "/mlflow/api/2.0/mlflow/model-versions/search"): VIEWER,
    ("GET", "/mlflow/api/2.0/mlflow/model-versions/get-download-uri"): VIEWER,
    ("POST", "/mlflow/api/2.0/mlflow/model-versions/set-tag"): OPERATOR,
    ("DELETE", "/mlflow/api/2.0/mlflow/model-versions/delete-tag"): OPERATOR,
    ("GET", "/mlflow/api/2.0/mlflow-artifacts/artifacts"): VIEWER,
    ("GET", "/mlflow/api/2.0/mlflow-artifacts/artifacts/{path}"): VIEWER,
}


SIGNS_OF_LIFE: Final[frozenset[tuple[str, str]]] = frozenset(
    {
        ("PUT", "/api/v1/execution/workers/{worker_id}"),
        ("POST", "/api/v1/execution/jobs/{job_id}/heartbeat"),
        ("POST", "/api/v1/execution/jobs/{job_id}/events"),
        ("POST", "/internal/v1/traffic"),
        ("POST", "/internal/v1/captures"),
    }
)
"""What machines send all the time of what goes on: measured, not decided, so the audit log has none of it. A worker's first word is."""

READS_BY_POST: Final[frozenset[tuple[str, str]]] = frozenset(
    {
        ("POST", "/api/v1/jobs/estimate"),
        ("POST", "/api/v1/schedules/preview"),
        ("POST", "/mlflow/api/2.0/mlflow/registered-models/get-latest-versions"),
        ("POST", "/mlflow/api/2.0/mlflow/registered-models/rename"),
    }
)
"""What changes nothing, though its method might: the last refuses whatever it is asked."""


def allows(need: Need, identity: Identity) -> bool:
    """Tells whether a valid key may do what needs ``need``."""
    match need:
        case Access.ANYONE | Access.ANY_KEY:
            return True
        case Access.PLATFORM_ADMIN:
            return identity.is_platform and identity.role is Role.ADMIN
        case Role():
            return role_covers(identity.role, need)


def refusal(need: Need, identity: Identity) -> str:
    """Returns why a key that ``allows`` says no to is refused, in words for its holder."""
    if need is Access.PLATFORM_ADMIN:
        return "this needs an admin's key of the platform project, the one that the installation was made with"
    return f"this needs a key of role {need}; this one is a {identity.role} key"
