"""The controller's writes: each one small transaction, fenced by the states it moves from. Nothing is held over I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from quantry_core.execution import EventDraft
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import EventKind, Progress
from quantry_core.rollouts import AttachedAdapter, Release, Replica, ReplicaState, Rollout
from quantry_core.traffic import TrafficWindow
from quantry_core.verdicts import Judgement
from quantry_core.versions import VersionDetail
from quantry_deploy.actions import (
    BeginRollout,
    EndRollout,
    EndWatch,
    PauseRollout,
    PromoteRollout,
    RolloutMove,
    SetWanted,
    StageRollout,
    UndoPromotion,
)
from quantry_store.database import Database
from quantry_store.transactions.rollout_stages import (
    end_watch,
    judge_rollout,
    load_windows,
    pause_rollout,
    set_wanted,
    stage_rollout,
    undo_promotion,
)
from quantry_store.transactions.rollouts import (
    DeploymentRecord,
    begin_rollout,
    delete_replica,
    fail_rollout,
    load_deployments,
    promote_rollout,
    upsert_replica,
)

MAX_MESSAGE_CHARS = 4000


@dataclass(frozen=True)
class Looked:
    """All there is to reconcile, as it was at one moment."""

    records: list[DeploymentRecord]
    now: datetime
    """That moment, by the database's clock: every time in a record is of that clock."""

    revision: int
    """Of the routes, just then: it differs as soon as anybody changes what is served, or asks for a change."""


def _nobody(_written: object) -> None:
    """Who hears of what was written where nobody counts."""


class Ledger:
    """What the controller reads and writes. Every method is one transaction."""

    def __init__(
        self, database: Database, *, on_move: Callable[[RolloutMove], None] = _nobody, on_judged: Callable[[Judgement], None] = _nobody
    ) -> None:
        """``on_move`` and ``on_judged`` hear of what was written."""
        self._database = database
        self._on_move = on_move
        self._on_judged = on_judged

    async def load(self) -> Looked:
        """Returns what there is to reconcile; raises Unavailable when the database is away."""
        async with self._database.begin() as uow:
            records = await load_deployments(uow)
            return Looked(records, await uow.now(), await uow.routes.revision())

    async def revision(self) -> int:
        """Returns the revision of the routes; raises Unavailable."""
        async with self._database.begin() as uow:
            return await uow.routes.revision()

    async def version(self, project_id: str, version_id: str) -> VersionDetail:
        """Returns a release's version with its files."""
        async with self._database.begin() as uow:
            return await uow.versions.detail(project_id, version_id)

    async def move(self, move: RolloutMove) -> None:
        """Moves a rollout. Raises StaleRollout or IllegalTransition if it moved meanwhile: nothing was written, the next pass sees it."""
        async with self._database.begin() as uow:
            match move:
                case BeginRollout(rollout):
                    await begin_rollout(uow, rollout.id)
                case StageRollout(rollout):
                    await stage_rollout(
                        uow, rollout.id, seen=rollout, stage=move.stage, percent=move.percent, mirror_percent=move.mirror_percent
                    )
                case PauseRollout(rollout):
                    await pause_rollout(uow, rollout.id, seen=rollout, reason=move.reason, message=move.message[:MAX_MESSAGE_CHARS])
                case PromoteRollout(rollout):
                    await promote_rollout(uow, rollout.id)
                case EndRollout(rollout):
                    message = move.message[:MAX_MESSAGE_CHARS]
                    await fail_rollout(uow, rollout.id, move.state, move.reason, move.job_reason, message)
                case UndoPromotion(rollout):
                    await undo_promotion(uow, rollout.id, move.reason, move.message[:MAX_MESSAGE_CHARS])
                case EndWatch(rollout):
                    await end_watch(uow, rollout.id)
        self._on_move(move)

    async def set_wanted(self, action: SetWanted) -> None:
        """Keeps how many replicas scaling wants."""
        async with self._database.begin() as uow:
            await set_wanted(uow, action.deployment_id, action.num_wanted)

    async def windows(self, release_id: str, since: datetime, after_id: int, limit: int) -> tuple[list[TrafficWindow], int]:
        """Returns a release's first windows that began since then and were stored after that id, and the id of the last; raises
        Unavailable."""
        async with self._database.begin() as uow:
            windows, last_id = await load_windows(uow, [release_id], since=since, after_id=after_id, limit=limit)
        return [window for _, window in windows], last_id

    async def judge(self, rollout_id: str, judgement: Judgement) -> None:
        """Keeps the last judgement on the rollout."""
        async with self._database.begin() as uow:
            await judge_rollout(uow, rollout_id, judgement)
        self._on_judged(judgement)

    async def progress(self, project_id: str, rollout: Rollout, progress: Progress) -> None:
        """Makes this the deploy job's progress, and an event of its stream; a rollout without a job has none."""
        if rollout.job_id is None:
            return
        async with self._database.begin() as uow:
            job = await uow.jobs.lock(project_id, rollout.job_id)
            if job.progress == progress:
                return
            await uow.jobs.set_progress(job, progress)
            draft = EventDraft(kind=EventKind.PROGRESS, data=progress.model_dump(mode="json"))
            await uow.events.append(job.id, job.attempt, [draft])

    async def add_replica(self, release: Release, ordinal: int, now: datetime) -> Replica:
        """Returns a new replica of a release, pulling."""
        replica = Replica(id=new_id(IdPrefix.REPLICA), release_id=release.id, ordinal=ordinal, state=ReplicaState.PULLING, updated_at=now)
        return await self.write(replica)

    async def write(self, replica: Replica) -> Replica:
        """Returns the replica as written; its ``updated_at`` is the database's time."""
        async with self._database.begin() as uow:
            return await upsert_replica(uow, replica)

    async def set_adapter_message(self, adapter: AttachedAdapter, message: str | None) -> None:
        """Says why an attached adapter is not loaded, or that nothing is the matter."""
        async with self._database.begin() as uow:
            await uow.attached.set_message(adapter.id, None if message is None else message[:MAX_MESSAGE_CHARS])

    async def remove(self, replica: Replica) -> None:
        """Forgets a replica."""
        async with self._database.begin() as uow:
            await delete_replica(uow, replica.id)
