"""Rollouts: made pending, moved by the one setter there is."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import NotFound
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import Job
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.rollouts import ACTIVE_ROLLOUT_STATES, Deployment, Release, Rollout, RolloutState, check_rollout_transition
from quantry_store.repositories.paging import load_page
from quantry_store.tables import RolloutRow


class RolloutRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def job_key(self, rollout_id: str) -> tuple[str, str]:
        """Returns the project id and the id of the job that a rollout ends, so that the job is locked first; raises NotFound."""
        statement = select(RolloutRow.project_id, RolloutRow.job_id).where(RolloutRow.id == rollout_id)
        row = (await self._session.execute(statement)).one_or_none()
        if row is None:
            raise NotFound(f"there is no rollout {rollout_id!r}")
        return row.project_id, row.job_id

    async def list(self, project_id: str, deployment: Deployment, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Rollout]:
        """Returns a page of a deployment's rollouts, newest first."""
        statement = select(RolloutRow).where(RolloutRow.deployment_id == deployment.id, RolloutRow.project_id == project_id)
        return await load_page(self._session, statement, RolloutRow.id, lambda row: to_rollout(row[0]), after=after, limit=limit)

    async def add(self, job: Job, deployment: Deployment, release: Release, *, ready_timeout_s: int) -> Rollout:
        """Returns a new pending rollout from the deployment's current release to ``release``.

        The deployment must have been locked and have no active rollout.
        """
        current = deployment.current_release
        row = RolloutRow(
            id=new_id(IdPrefix.ROLLOUT),
            project_id=job.project_id,
            deployment_id=deployment.id,
            from_release_id=None if current is None else current.id,
            to_release_id=release.id,
            job_id=job.id,
            state=RolloutState.PENDING,
            ready_deadline_at=func.now() + timedelta(seconds=ready_timeout_s),
        )
        self._session.add(row)
        await self._session.flush()
        await self._session.refresh(row)
        return to_rollout(row)

    async def lock(self, rollout_id: str) -> Rollout:
        """Returns a rollout with its row locked until the transaction ends; raises NotFound. Its job is locked before it."""
        statement = select(RolloutRow).where(RolloutRow.id == rollout_id).with_for_update(key_share=True)
        row = (await self._session.scalars(statement, execution_options={"populate_existing": True})).one_or_none()
        if row is None:
            raise NotFound(f"there is no rollout {rollout_id!r}")
        return to_rollout(row)

    async def move(self, rollout: Rollout, state: RolloutState, *, message: str | None = None) -> Rollout:
        """Returns the locked rollout in its new state: the only setter of one. Raises IllegalTransition."""
        check_rollout_transition(rollout.state, state)
        values: dict[str, Any] = {"state": state, "message": message}
        if state not in ACTIVE_ROLLOUT_STATES:
            values |= {"finished_at": func.now()}
        return await self._write(rollout, values)

    async def set_deadline(self, rollout: Rollout, *, ready_timeout_s: int) -> Rollout:
        """Returns the locked rollout, to be ready within that many seconds from now."""
        return await self._write(rollout, {"ready_deadline_at": func.now() + timedelta(seconds=ready_timeout_s)})

    async def _write(self, rollout: Rollout, values: dict[str, Any]) -> Rollout:
        rows = await self._session.scalars(
            update(RolloutRow).where(RolloutRow.id == rollout.id).values(**values).returning(RolloutRow),
            execution_options={"populate_existing": True, "synchronize_session": False},
        )
        return to_rollout(rows.one())


def to_rollout(row: RolloutRow) -> Rollout:
    """Returns the rollout a row holds."""
    return Rollout(
        id=row.id,
        deployment_id=row.deployment_id,
        from_release_id=row.from_release_id,
        to_release_id=row.to_release_id,
        job_id=row.job_id,
        state=row.state,
        message=row.message,
        ready_deadline_at=row.ready_deadline_at,
        created_at=row.created_at,
        finished_at=row.finished_at,
    )
