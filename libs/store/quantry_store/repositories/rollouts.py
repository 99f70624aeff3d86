"""Rollouts: made pending, moved by the one setter there is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

from pydantic import TypeAdapter
from sqlalchemy import ColumnElement, func, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import UnknownRollout
from quantry_core.ids import IdPrefix, new_id
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.rollouts import (
    ACTIVE_ROLLOUT_STATES,
    Deployment,
    Release,
    Rollout,
    RolloutCause,
    RolloutReason,
    RolloutState,
    check_rollout_transition,
)
from quantry_core.strategies import ImmediateStrategy, Strategy
from quantry_core.verdicts import Judgement
from quantry_store.repositories.audit import AuditRepository
from quantry_store.repositories.paging import load_page
from quantry_store.tables import RolloutRow
from quantry_store.tables.deployments import WATCHED

DEFAULT_READY_TIMEOUT_S = 600.0
"""Of a rollout that no deploy job asked for."""

IMMEDIATELY = ImmediateStrategy()

_STRATEGY: TypeAdapter[Strategy] = TypeAdapter(Strategy)


@dataclass(frozen=True)
class RolloutDraft:
    """What is known of a rollout before it is there."""

    cause: RolloutCause
    job_id: str | None = None
    strategy: Strategy = IMMEDIATELY
    ready_timeout_s: float = DEFAULT_READY_TIMEOUT_S
    watch_s: float = 0.0
    note: str | None = None
    key_id: str | None = None


class RolloutOwner(NamedTuple):
    """What a rollout belongs to: all that never changes of it."""

    project_id: str
    deployment_id: str
    job_id: str | None


class RolloutRepository:
    def __init__(self, session: AsyncSession, *, audit: AuditRepository) -> None:
        self._session = session
        self._audit = audit

    async def owner(self, rollout_id: str) -> RolloutOwner:
        """Returns what a rollout belongs to, so that its job is locked before it; raises UnknownRollout."""
        statement = select(RolloutRow.project_id, RolloutRow.deployment_id, RolloutRow.job_id).where(RolloutRow.id == rollout_id)
        row = (await self._session.execute(statement)).one_or_none()
        if row is None:
            raise _unknown(rollout_id)
        return RolloutOwner(row.project_id, row.deployment_id, row.job_id)

    async def get(self, project_id: str, rollout_id: str) -> Rollout:
        """Returns a rollout; raises UnknownRollout."""
        statement = select(RolloutRow).where(RolloutRow.id == rollout_id, RolloutRow.project_id == project_id)
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        if row is None:
            raise _unknown(rollout_id)
        return to_rollout(row)

    async def of_job(self, project_id: str, job_id: str) -> Rollout | None:
        """Returns the rollout of a deploy job; None while it waits, or if it never got one."""
        statement = select(RolloutRow).where(RolloutRow.job_id == job_id, RolloutRow.project_id == project_id)
        row = (await self._session.scalars(statement)).one_or_none()
        return None if row is None else to_rollout(row)

    async def list(
        self,
        project_id: str,
        deployment: Deployment | None = None,
        *,
        state: RolloutState | None = None,
        after: str | None = None,
        limit: int = DEFAULT_LIMIT,
    ) -> Page[Rollout]:
        """Returns a page of a deployment's rollouts, or of all of the project's, newest first."""
        statement = select(RolloutRow).where(RolloutRow.project_id == project_id)
        if deployment is not None:
            statement = statement.where(RolloutRow.deployment_id == deployment.id)
        if state is not None:
            statement = statement.where(RolloutRow.state == state)
        return await load_page(self._session, statement, RolloutRow.id, lambda row: to_rollout(row[0]), after=after, limit=limit)

    async def promotion_to(self, release_id: str) -> Rollout | None:
        """Returns the first rollout that made a release the current one; None if it never was."""
        statement = (
            select(RolloutRow)
            .where(RolloutRow.to_release_id == release_id, RolloutRow.state == RolloutState.PROMOTED)
            .order_by(RolloutRow.id)
            .limit(1)
        )
        row = (await self._session.scalars(statement)).one_or_none()
        return None if row is None else to_rollout(row)

    async def add(self, deployment: Deployment, release: Release, draft: RolloutDraft) -> Rollout:
        """Returns a new pending rollout from the deployment's current release to ``release``.

        The deployment must have been locked and have no active rollout.
        """
        current = deployment.current_release
        row = RolloutRow(
            id=new_id(IdPrefix.ROLLOUT),
            project_id=deployment.project_id,
            deployment_id=deployment.id,
            from_release_id=None if current is None else current.id,
            to_release_id=release.id,
            job_id=draft.job_id,
            cause=draft.cause,
            state=RolloutState.PENDING,
            strategy=draft.strategy.model_dump(mode="json"),
            note=draft.note,
            key_id=draft.key_id,
            ready_timeout_s=draft.ready_timeout_s,
            ready_deadline_at=func.now() + timedelta(seconds=draft.ready_timeout_s),
            watch_s=draft.watch_s,
        )
        self._session.add(row)
        await self._session.flush()
        await self._session.refresh(row)
        return to_rollout(row)

    async def lock(self, rollout_id: str) -> Rollout:
        """Returns a rollout with its row locked until the transaction ends; raises UnknownRollout. Its job is locked before it."""
        statement = select(RolloutRow).where(RolloutRow.id == rollout_id).with_for_update(key_share=True)
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        if row is None:
            raise _unknown(rollout_id)
        return to_rollout(row)

    async def move(
        self, rollout: Rollout, state: RolloutState, *, reason: RolloutReason | None = None, message: str | None = None, **also: Any
    ) -> Rollout:
        """Returns the locked rollout in its new state, with other columns that change with it: the only setter of a state.

        One that ends has no share any more but that of a promoted one, which is the whole. Raises IllegalTransition.
        """
        check_rollout_transition(rollout.state, state)
        values: dict[str, Any] = {"state": state, "reason": reason, "message": message, **also}
        if state not in ACTIVE_ROLLOUT_STATES:
            share = 100 if state is RolloutState.PROMOTED else 0
            values |= {"finished_at": func.now(), "percent": share, "mirror_percent": 0}
        facts = {"reason": reason, "message": message}
        return await self._write(rollout.id, values, told=(state, facts))

    async def begin(self, rollout: Rollout) -> Rollout:
        """Returns the locked rollout, progressing, to be ready within its time from now. Raises IllegalTransition."""
        deadline = func.now() + RolloutRow.ready_timeout_s * timedelta(seconds=1)
        return await self.move(rollout, RolloutState.PROGRESSING, ready_deadline_at=deadline)

    async def resume(self, rollout: Rollout) -> Rollout:
        """Returns the locked rollout, progressing after a pause. A step that waits for a person is let through; one that was inconclusive
        has its time again; one that was paused out of its turn goes on where it was. Raises IllegalTransition."""
        also: dict[str, Any] = {}
        if rollout.reason is RolloutReason.STEP:
            also = {"is_resumed": True}
        elif rollout.reason is RolloutReason.INCONCLUSIVE:
            also = {"staged_at": func.now()}
        return await self.move(rollout, RolloutState.PROGRESSING, **also)

    async def set_stage(self, rollout: Rollout, *, stage: int, percent: int, mirror_percent: int) -> Rollout:
        """Returns the locked rollout at a stage that begins now."""
        values: dict[str, Any] = {"stage": stage, "percent": percent, "mirror_percent": mirror_percent}
        values |= {"staged_at": func.now(), "is_resumed": False}
        if percent or mirror_percent:
            values["exposed_at"] = func.coalesce(RolloutRow.exposed_at, func.now())
        facts = {"stage": stage, "percent": percent, "mirror_percent": mirror_percent}
        return await self._write(rollout.id, values, told=("stage", facts))

    async def ask_promotion(self, rollout: Rollout) -> Rollout:
        """Returns the locked rollout, to be promoted as soon as its replicas are ready."""
        return await self._write(rollout.id, {"promote_requested": True})

    async def set_judgement(self, rollout_id: str, judgement: Judgement) -> Rollout:
        """Returns the rollout with its last analysis; raises UnknownRollout."""
        return await self._write(rollout_id, {"judgement": judgement.model_dump(mode="json")})

    async def watch(self, rollout: Rollout) -> Rollout:
        """Returns the promoted rollout, its watch begun."""
        return await self._write(rollout.id, {"watch_until": func.now() + RolloutRow.watch_s * timedelta(seconds=1)})

    async def end_watch(self, rollout_id: str) -> bool:
        """Ends the watch of a rollout; returns whether it had one that was not over."""
        return await self._end_watches(RolloutRow.id == rollout_id)

    async def end_watch_of(self, deployment_id: str) -> bool:
        """Ends a deployment's watch; returns whether there was one. Taken before a later rollout of it is locked."""
        return await self._end_watches(RolloutRow.deployment_id == deployment_id)

    async def _end_watches(self, which: ColumnElement[bool]) -> bool:
        ended = await self._session.scalars(
            update(RolloutRow).where(which, text(WATCHED)).values(watch_ended_at=func.now()).returning(RolloutRow.id),
            execution_options={"synchronize_session": False},
        )
        return bool(ended.all())

    async def _write(self, rollout_id: str, values: dict[str, Any], *, told: tuple[str, dict[str, Any]] | None = None) -> Rollout:
        """Returns the rollout after the change; ``told`` is what the audit log says of it, unless something else is said."""
        rows = await self._session.scalars(
            update(RolloutRow).where(RolloutRow.id == rollout_id).values(**values).returning(RolloutRow),
            execution_options={"populate_existing": True, "synchronize_session": False},
        )
        row = rows.one_or_none()
        if row is None:
            raise _unknown(rollout_id)
        if told is not None:
            state, facts = told
            self._audit.note_move("rollout", row.id, state, facts, project_id=row.project_id)
        return to_rollout(row)


def _unknown(rollout_id: str) -> UnknownRollout:
    return UnknownRollout(f"there is no rollout {rollout_id!r}")


def to_rollout(row: RolloutRow) -> Rollout:
    """Returns the rollout a row holds."""
    return Rollout(
        id=row.id,
        deployment_id=row.deployment_id,
        from_release_id=row.from_release_id,
        to_release_id=row.to_release_id,
        job_id=row.job_id,
        cause=row.cause,
        state=row.state,
        strategy=_STRATEGY.validate_python(row.strategy),
        reason=row.reason,
        message=row.message,
        note=row.note,
        key_id=row.key_id,
        stage=row.stage,
        percent=row.percent,
        mirror_percent=row.mirror_percent,
        staged_at=row.staged_at,
        exposed_at=row.exposed_at,
        is_resumed=row.is_resumed,
        promote_requested=row.promote_requested,
        judgement=None if row.judgement is None else Judgement.model_validate(row.judgement),
        ready_deadline_at=row.ready_deadline_at,
        watch_s=row.watch_s,
        watch_until=row.watch_until,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
