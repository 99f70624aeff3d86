"""What was measured and checked about versions."""

from __future__ import annotations

import builtins
from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import Job
from quantry_core.versions import Evidence, EvidenceDraft, Version
from quantry_store.tables import EvidenceRow, VersionFileRow


class EvidenceRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def list(self, version_id: str) -> builtins.list[Evidence]:
        """Returns all evidence about a version, oldest first. Callers have looked the version up in its project."""
        statement = (
            select(EvidenceRow)
            .where(EvidenceRow.version_id == version_id)
            .order_by(EvidenceRow.created_at, EvidenceRow.job_id, EvidenceRow.position)
        )
        return [_evidence(row) for row in await self._session.scalars(statement)]

    async def told_of(self, name: str, digests: Collection[str]) -> builtins.list[tuple[str, str, str]]:
        """Returns project, version and digest of each file that has one of these digests and of which a check said something."""
        statement = (
            select(VersionFileRow.project_id, VersionFileRow.version_id, VersionFileRow.sha256)
            .join(EvidenceRow, EvidenceRow.version_id == VersionFileRow.version_id)
            .where(
                VersionFileRow.kept_sha256.in_(digests),
                EvidenceRow.name == name,
                EvidenceRow.metrics["sha256"].astext == VersionFileRow.sha256,
            )
            .distinct()
        )
        found = await self._session.execute(statement)
        return sorted((project_id, version_id, sha256) for project_id, version_id, sha256 in found)

    async def add(self, version_id: str, job: Job, drafts: Sequence[EvidenceDraft]) -> None:
        """Notes what a job found out about a version, in the order it reported it."""
        self._session.add_all(
            EvidenceRow(
                id=new_id(IdPrefix.EVIDENCE),
                project_id=job.project_id,
                version_id=version_id,
                job_id=job.id,
                position=position,
                kind=draft.kind,
                name=draft.name,
                verdict=draft.verdict,
                metrics=draft.metrics,
            )
            for position, draft in enumerate(drafts)
        )
        await self._session.flush()

    async def note(self, version: Version, draft: EvidenceDraft) -> None:
        """Notes what the platform itself found out about a version; it goes under the job that made it."""
        row = EvidenceRow(
            id=new_id(IdPrefix.EVIDENCE),
            project_id=version.project_id,
            version_id=version.id,
            job_id=version.job_id,
            position=0,
            kind=draft.kind,
            name=draft.name,
            verdict=draft.verdict,
            metrics=draft.metrics,
        )
        self._session.add(row)
        await self._session.flush()


def _evidence(row: EvidenceRow) -> Evidence:
    return Evidence(
        id=row.id,
        version_id=row.version_id,
        job_id=row.job_id,
        kind=row.kind,
        name=row.name,
        verdict=row.verdict,
        metrics=row.metrics,
        created_at=row.created_at,
    )
