"""What happens, as webhooks tell of it: ids, states, reasons and where to look. Nothing that a log or a prompt could hold."""

from __future__ import annotations

from typing import Any

from quantry_core.jobs import Job, JobReason
from quantry_core.rollouts import Rollout, RolloutState
from quantry_core.schedules import ScheduleRun
from quantry_core.verdicts import Judgement
from quantry_core.webhooks import WebhookEvent
from quantry_store.repositories.job_endings import job_data
from quantry_store.repositories.schedules import ScheduleRecord
from quantry_store.repositories.webhook_outbox import Telling
from quantry_store.unit_of_work import UnitOfWork

MAX_MESSAGE_CHARS = 300

_ENDS = {
    RolloutState.PROMOTED: WebhookEvent.ROLLOUT_PROMOTED,
    RolloutState.ROLLED_BACK: WebhookEvent.ROLLOUT_ROLLED_BACK,
    RolloutState.ABORTED: WebhookEvent.ROLLOUT_ABORTED,
}


async def tell_rollout_end(uow: UnitOfWork, project_id: str, rollout: Rollout, job: Job | None) -> None:
    """Tells that a rollout is over."""
    await _tell_rollout(uow, project_id, rollout, job, _ENDS[rollout.state], {"state": rollout.state, "reason": rollout.reason})


async def tell_verdict(uow: UnitOfWork, rollout_id: str, before: Judgement | None, judgement: Judgement) -> None:
    """Tells how a candidate is judged, where that is otherwise than before."""
    if before is not None and before.verdict is judgement.verdict:
        return
    owner = await uow.rollouts.owner(rollout_id)
    if not await uow.outbox.listens(owner.project_id):
        return
    rollout = await uow.rollouts.get(owner.project_id, rollout_id)
    job = None if owner.job_id is None else await uow.jobs.get(owner.project_id, owner.job_id)
    facts = {"verdict": judgement.verdict, "message": judgement.reason(), "state": rollout.state}
    await _tell_rollout(uow, owner.project_id, rollout, job, WebhookEvent.ROLLOUT_VERDICT, facts)


async def tell_schedule_failed(uow: UnitOfWork, schedule: ScheduleRecord, run: ScheduleRun) -> None:
    """Tells that a due time came to nothing."""
    data = {
        "schedule_id": schedule.id,
        "name": schedule.name,
        "run_id": run.id,
        "due_at": run.due_at.isoformat(),
        "outcome": run.outcome,
        "message": _short(run.message),
        "path": f"/api/v1/schedules/{schedule.id}",
        "page": f"/schedules/{schedule.id}",
    }
    await uow.outbox.tell([Telling(schedule.identity.project_id, WebhookEvent.SCHEDULE_FAILED, schedule.id, data)])


async def tell_worker_lost(uow: UnitOfWork, job: Job) -> None:
    """Tells that an attempt was lost with its worker and its job is tried again."""
    data = job_data(job.id, job.type, job.status, JobReason.WORKER_LOST) | {"attempt": job.attempt, "num_lost": job.num_lost_attempts}
    await uow.outbox.tell([Telling(job.project_id, WebhookEvent.JOB_WORKER_LOST, job.id, data, job.type, job.labels)])


async def _tell_rollout(  # noqa: PLR0917 - whose it is, what, and what of it, read in this order
    uow: UnitOfWork, project_id: str, rollout: Rollout, job: Job | None, event: WebhookEvent, facts: dict[str, Any]
) -> None:
    if not await uow.outbox.listens(project_id):
        return
    release = await uow.releases.get(rollout.to_release_id)
    name = await uow.outbox.deployment_name(rollout.deployment_id)
    data = {
        "rollout_id": rollout.id,
        "name": name,
        "deployment_id": rollout.deployment_id,
        "release_id": release.id,
        "version_id": release.version_id,
        "from_release_id": rollout.from_release_id,
        "job_id": rollout.job_id,
        "path": f"/api/v1/rollouts/{rollout.id}",
        "page": f"/deployments/{name}",
        "message": _short(rollout.message),
        **facts,
    }
    data["message"] = _short(data["message"])
    job_type, labels = (None, {}) if job is None else (job.type, job.labels)
    await uow.outbox.tell([Telling(project_id, event, rollout.id, data, job_type, labels)])


def _short(text: str | None) -> str | None:
    return None if text is None else text[:MAX_MESSAGE_CHARS]
