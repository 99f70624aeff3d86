"""What served under a deployment's name, from one change to the next."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, Select, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.ids import IdPrefix, new_id
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.rollouts import Deployment, PeriodCause, RolloutReason, ServingPeriod, Share
from quantry_store.repositories.paging import load_page
from quantry_store.tables import ServingPeriodRow


@dataclass(frozen=True)
class PeriodDraft:
    """Why what is served changed, and who changed it: None is the platform."""

    cause: PeriodCause
    reason: RolloutReason | None = None
    message: str | None = None
    rollout_id: str | None = None
    key_id: str | None = None
    note: str | None = None


class PeriodRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, deployment: Deployment, shares: Sequence[Share], draft: PeriodDraft) -> None:
        """Notes what a locked deployment serves from now on."""
        row = ServingPeriodRow(
            id=new_id(IdPrefix.PERIOD),
            project_id=deployment.project_id,
            deployment_id=deployment.id,
            # Not the transaction's beginning: it may have waited for the lock under which an earlier change was noted.
            began_at=func.clock_timestamp(),
            shares=[share.model_dump(mode="json") for share in shares],
            cause=draft.cause,
            reason=draft.reason,
            message=draft.message,
            rollout_id=draft.rollout_id,
            key_id=draft.key_id,
            note=draft.note,
        )
        self._session.add(row)
        await self._session.flush()

    async def last_shares(self, deployment: Deployment) -> builtins.list[Share]:
        """Returns what a deployment serves now, as it was last noted; nothing where nothing was."""
        last = await self.at(deployment, None)
        return [] if last is None else last.shares

    async def at(self, deployment: Deployment, time: datetime | None) -> ServingPeriod | None:
        """Returns what served at a time (None: now); None before anything did."""
        statement = _with_ends(deployment)
        if time is not None:
            statement = statement.where(ServingPeriodRow.began_at <= time)
        last = statement.order_by(ServingPeriodRow.began_at.desc(), ServingPeriodRow.id.desc()).limit(1)
        row = (await self._session.execute(last)).one_or_none()
        return None if row is None else _to_period(row)

    async def list(self, deployment: Deployment, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[ServingPeriod]:
        """Returns a page of a deployment's periods, newest first."""
        return await load_page(self._session, _with_ends(deployment), ServingPeriodRow.id, _to_period, after=after, limit=limit)


def _with_ends(deployment: Deployment) -> Select[ServingPeriodRow, datetime | None]:
    """Returns the statement of a deployment's periods, each with when the next one began."""
    following = ServingPeriodRow.__table__.alias("following")
    ended_at = (
        select(func.min(following.c.began_at))
        .where(following.c.deployment_id == ServingPeriodRow.deployment_id, following.c.began_at > ServingPeriodRow.began_at)
        .scalar_subquery()
    )
    return select(ServingPeriodRow, ended_at).where(ServingPeriodRow.deployment_id == deployment.id)


def _to_period(found: Row[ServingPeriodRow, datetime | None]) -> ServingPeriod:
    row, ended_at = found
    return ServingPeriod(
        id=row.id,
        deployment_id=row.deployment_id,
        began_at=row.began_at,
        ended_at=ended_at,
        shares=[Share.model_validate(share) for share in row.shares],
        cause=row.cause,
        reason=row.reason,
        message=row.message,
        rollout_id=row.rollout_id,
        key_id=row.key_id,
        note=row.note,
    )
