"""Deployment records at a fixed time, for the controller's pure functions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from factories.client import version
from quantry_core.jobs import EngineConfig, Scaling
from quantry_core.rollouts import Deployment, Release, Replica, ReplicaState, Rollout, RolloutState
from quantry_core.rules import RuleName
from quantry_core.verdicts import Finding, Judgement, Verdict
from quantry_core.versions import VersionDetail, manifest_digest
from quantry_store.transactions.rollouts import DeploymentRecord

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def true_version(contents: dict[str, bytes]) -> VersionDetail:
    """Returns a master whose manifest digest is that of its files."""
    claimed = version(contents)
    return claimed.model_copy(update={"manifest_digest": manifest_digest(claimed.files)})


def release(id_: str = "rel_new", *, num_replicas: int = 1, scaling: Scaling | None = None) -> Release:
    return Release(
        id=id_,
        deployment_id="dep_1",
        number=1,
        version_id=f"ver_of_{id_}",
        version_ref=f"bard@{id_}",
        num_replicas=num_replicas,
        engine=EngineConfig(),
        scaling=scaling,
        created_at=ago(1000),
    )


def rollout(state: RolloutState = RolloutState.PROGRESSING, **changes: Any) -> Rollout:
    values: dict[str, Any] = {
        "id": "rol_1",
        "deployment_id": "dep_1",
        "from_release_id": None,
        "to_release_id": "rel_new",
        "job_id": "job_1",
        "state": state,
        "ready_deadline_at": NOW + timedelta(seconds=100),
        "created_at": ago(10),
    }
    return Rollout.model_validate({**values, **changes})


def replica(state: ReplicaState, release_id: str = "rel_new", *, age_s: float = 0.0, **changes: Any) -> Replica:
    """Returns a replica that has been in its state for ``age_s`` seconds."""
    values: dict[str, Any] = {"id": f"rep_{release_id}_{changes.get('ordinal', 0)}", "ordinal": 0, "updated_at": ago(age_s)}
    return Replica.model_validate({**values, "release_id": release_id, "state": state, **changes})


def record(
    *replicas: Replica,
    current: Release | None = None,
    target: Release | None = None,
    active: Rollout | None = None,
    watched: Rollout | None = None,
    cancel_requested: bool = False,
    **changes: Any,
) -> DeploymentRecord:
    """Returns the record of a deployment that serves ``current`` and, with a rollout, moves to ``target``.

    With a watched rollout ``target`` is the release before.
    """
    values: dict[str, Any] = {
        "id": "dep_1",
        "project_id": "prj_1",
        "name": "chat",
        "current_release": current,
        "active_rollout": active,
        "watched_rollout": watched,
        "replicas": list(replicas),
        "is_stopped": False,
        "created_at": ago(2000),
    }
    deployment = Deployment.model_validate({**values, **changes})
    releases = {item.id: item for item in (current, target) if item is not None}
    return DeploymentRecord(deployment=deployment, releases=releases, cancel_requested=cancel_requested)


def judged(verdict: Verdict, message: str = "38 of 74 requests") -> Judgement:
    """Returns a judgement by one rule."""
    return Judgement(verdict=verdict, findings=[Finding(rule=RuleName.ERROR_RATE_COMPARED, verdict=verdict, message=message)], made_at=NOW)
