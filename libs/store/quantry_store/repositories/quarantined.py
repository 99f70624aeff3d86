"""Versions whose time in quarantine is over: they let go of their bytes, and nothing else of them changes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, Text, cast, exists, func, or_, select, update
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import InstrumentedAttribute

from quantry_core.retention import Over
from quantry_core.versions import Version, VersionKind, VersionState
from quantry_store.failures import core_errors
from quantry_store.repositories.blobs import BlobRepository
from quantry_store.repositories.open_jobs import is_open_in
from quantry_store.repositories.version_rows import to_version
from quantry_store.tables import (
    AliasRow,
    BlobRow,
    DatasetRow,
    DeploymentAdapterRow,
    JobArtifactRow,
    JobCheckpointFileRow,
    JobRow,
    LineageEdgeRow,
    ModelRow,
    ReleaseRow,
    UploadFileRow,
    VersionFileRow,
    VersionRow,
)

_OTHERS = (DatasetRow.kept_sha256, UploadFileRow.sha256, JobArtifactRow.sha256, JobCheckpointFileRow.sha256)


class Released(NamedTuple):
    """A version that let go of its bytes, and how many of them nothing holds any more."""

    version: Version
    num_files: int
    size_bytes: int


class QuarantinedRepository:
    def __init__(self, session: AsyncSession, *, blobs: BlobRepository) -> None:
        self._session = session
        self._blobs = blobs

    async def release(self, keep_s: float, *, limit: int) -> list[Released]:
        """Has at most ``limit`` versions let go of their bytes that are in quarantine for ``keep_s`` seconds and that nothing needs.

        A master never does, nor what something was made from, what a release, an alias or a deployment has, what an unfinished job
        uses, or what is deleted and can be restored. Those that somebody has locked are left for later.
        """
        ripe = select(VersionRow.id).where(*_is_over(keep_s)).order_by(VersionRow.quarantined_at).limit(limit)
        locked = (await self._session.scalars(ripe.with_for_update(skip_locked=True, of=VersionRow))).all()
        if not locked:
            return []
        # Once the rows are locked nobody begins to use one; this statement sees whoever did before.
        free = (await self._session.scalars(select(VersionRow.id).where(VersionRow.id.in_(locked), *_is_over(keep_s)))).all()
        if not free:
            return []
        with core_errors():
            for row in (
                update(VersionRow).where(VersionRow.id.in_(free)).values(bytes_released_at=func.now()),
                update(VersionFileRow).where(VersionFileRow.version_id.in_(free)).values(released_at=func.now()),
            ):
                await self._session.execute(row.execution_options(synchronize_session=False))
        return await self._released(free)

    async def over(self, keep_s: float) -> Over:
        """Returns how many versions would let go of their bytes, and how many bytes nothing else holds."""
        ids = select(VersionRow.id).where(*_is_over(keep_s)).cte("ids")
        num = await self._session.scalar(select(func.count()).select_from(ids)) or 0
        elsewhere = exists().where(VersionFileRow.kept_sha256 == BlobRow.sha256, VersionFileRow.version_id.not_in(select(ids.c.id)))
        theirs = select(VersionFileRow.kept_sha256).where(VersionFileRow.version_id.in_(select(ids.c.id)))
        others = [~exists().where(column == BlobRow.sha256) for column in _OTHERS]
        freed = select(func.coalesce(func.sum(BlobRow.size_bytes), 0)).where(BlobRow.sha256.in_(theirs), ~elsewhere, *others)
        return Over(num, int(await self._session.scalar(freed) or 0))

    async def oldest_at(self) -> datetime | None:
        """Returns since when the version is in quarantine that is there longest with its bytes; None where there is none."""
        waiting = [VersionRow.quarantined_at.is_not(None), VersionRow.bytes_released_at.is_(None)]
        return await self._session.scalar(select(func.min(VersionRow.quarantined_at)).where(*waiting))

    async def _released(self, version_ids: Sequence[str]) -> list[Released]:
        statement = (
            select(VersionRow, ModelRow.name)
            .join(ModelRow, ModelRow.id == VersionRow.model_id)
            .where(VersionRow.id.in_(version_ids))
            .order_by(VersionRow.id)
            .execution_options(populate_existing=True)
        )
        versions = [to_version(*row) for row in await self._session.execute(statement)]
        released, told = [], set[str]()
        for version in versions:
            digests = (await self._session.scalars(select(VersionFileRow.sha256).where(VersionFileRow.version_id == version.id))).all()
            # Bytes that two of them shared are counted with the first.
            freed = await self._blobs.held_by_nothing(set(digests) - told)
            told |= {blob.sha256 for blob in freed}
            released.append(Released(version, len(digests), sum(blob.size_bytes for blob in freed)))
        return released


def _is_over(keep_s: float) -> list[ColumnElement[bool]]:
    def named(key: str, value: ColumnElement[str] | InstrumentedAttribute[str]) -> ColumnElement[bool]:
        return JobRow.inputs.op("@>")(cast(func.jsonb_build_array(func.jsonb_build_object(cast(key, Text), value)), JSONB))

    return [
        VersionRow.quarantined_at < func.now() - timedelta(seconds=keep_s),
        VersionRow.bytes_released_at.is_(None),
        VersionRow.state == VersionState.QUARANTINED,
        VersionRow.kind != VersionKind.MASTER,
        VersionRow.deleted_at.is_(None),
        ~exists().where(LineageEdgeRow.parent_version_id == VersionRow.id),
        ~exists().where(ReleaseRow.version_id == VersionRow.id),
        ~exists().where(DeploymentAdapterRow.version_id == VersionRow.id),
        ~exists().where(AliasRow.version_id == VersionRow.id),
        ~exists().where(is_open_in(VersionRow.project_id), or_(named("version_id", VersionRow.id), named("job_id", VersionRow.job_id))),
    ]
