"""Captured prompts, as ciphertext: nothing here could read one."""

from __future__ import annotations

import builtins
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, literal, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.captures import CaptureStatus
from quantry_core.rollouts import Deployment
from quantry_store.tables import CapturedPromptRow


@dataclass(frozen=True)
class EncryptedPrompt:
    """A captured prompt whose body is encrypted."""

    id: str
    deployment_id: str
    release_id: str
    path: str
    ciphertext: bytes
    captured_at: datetime


class CaptureRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, deployment: Deployment, prompts: Collection[EncryptedPrompt]) -> int:
        """Returns how many of these prompts of a locked deployment are kept now and were not before: as far as there is room for
        them, and none where the deployment keeps none."""
        settings = deployment.capture
        if settings is None or not prompts:
            return 0
        room = settings.max_prompts - await self._count(deployment)
        retention = timedelta(days=settings.retention_days)
        rows = [
            {
                "id": prompt.id,
                "project_id": deployment.project_id,
                "deployment_id": deployment.id,
                "release_id": prompt.release_id,
                "path": prompt.path,
                "ciphertext": prompt.ciphertext,
                "captured_at": prompt.captured_at,
                # A gateway's clock that runs ahead must not have it kept for longer.
                "expires_at": func.least(prompt.captured_at, func.now()) + retention,
            }
            for prompt in prompts
        ]
        fresh = rows[: max(room, 0)]
        if not fresh:
            return 0
        statement = insert(CapturedPromptRow).values(fresh).on_conflict_do_nothing(index_elements=[CapturedPromptRow.id])
        return len((await self._session.scalars(statement.returning(CapturedPromptRow.id))).all())

    async def status(self, deployment: Deployment) -> CaptureStatus:
        """Returns what a deployment keeps, and how much of it there is."""
        statement = select(func.count(), func.min(CapturedPromptRow.captured_at), func.max(CapturedPromptRow.captured_at)).where(
            CapturedPromptRow.deployment_id == deployment.id
        )
        num_prompts, oldest_at, newest_at = (await self._session.execute(statement)).one()
        return CaptureStatus(settings=deployment.capture, num_prompts=num_prompts, oldest_at=oldest_at, newest_at=newest_at)

    async def num_by_path(self, deployment: Deployment) -> dict[str, int]:
        """Returns how many prompts a deployment has that are not past their time, by the path at which they were asked."""
        statement = select(CapturedPromptRow.path, func.count()).where(*_living(deployment)).group_by(CapturedPromptRow.path)
        return {path: num for path, num in await self._session.execute(statement)}

    async def list(
        self, deployment: Deployment, path: str, *, after: EncryptedPrompt | None = None, limit: int
    ) -> builtins.list[EncryptedPrompt]:
        """Returns the next prompts of a path that are not past their time, oldest first, of those that come after ``after``."""
        statement = select(CapturedPromptRow).where(*_living(deployment), CapturedPromptRow.path == path)
        key = tuple_(CapturedPromptRow.captured_at, CapturedPromptRow.id)
        if after is not None:
            statement = statement.where(key > tuple_(literal(after.captured_at), literal(after.id)))
        rows = await self._session.scalars(statement.order_by(CapturedPromptRow.captured_at, CapturedPromptRow.id).limit(limit))
        return [_to_prompt(row) for row in rows]

    async def keep_for(self, deployment: Deployment, days: int) -> None:
        """Gives the prompts that a deployment has another time to be kept, counted from when they were captured."""
        await self._session.execute(
            update(CapturedPromptRow)
            .where(CapturedPromptRow.deployment_id == deployment.id)
            .values(expires_at=func.least(CapturedPromptRow.captured_at, CapturedPromptRow.created_at) + timedelta(days=days))
            .execution_options(synchronize_session=False)
        )

    async def delete_all(self, deployment: Deployment) -> int:
        """Returns how many prompts of a deployment were deleted."""
        statement = delete(CapturedPromptRow).where(CapturedPromptRow.deployment_id == deployment.id).returning(CapturedPromptRow.id)
        return len((await self._session.scalars(statement.execution_options(synchronize_session=False))).all())

    async def _count(self, deployment: Deployment) -> int:
        statement = select(func.count()).select_from(CapturedPromptRow).where(CapturedPromptRow.deployment_id == deployment.id)
        return (await self._session.execute(statement)).scalar_one()


def _living(deployment: Deployment) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    return CapturedPromptRow.deployment_id == deployment.id, CapturedPromptRow.expires_at > func.now()


def _to_prompt(row: CapturedPromptRow) -> EncryptedPrompt:
    return EncryptedPrompt(
        id=row.id,
        deployment_id=row.deployment_id,
        release_id=row.release_id,
        path=row.path,
        ciphertext=row.ciphertext,
        captured_at=row.captured_at,
    )
