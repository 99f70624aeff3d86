"""Pipelines. Where one is follows from the newest job of each of its steps."""

from __future__ import annotations

import builtins
from collections import Counter
from collections.abc import Collection, Sequence

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import UnknownPipeline
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import Job, JobStatus, Requirement
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.pipelines import Pipeline, PipelineDetail, PipelineSubmission, newest_jobs, pipeline_status
from quantry_store.repositories.jobs import knowing_words, to_job
from quantry_store.repositories.labels import label_conditions
from quantry_store.repositories.paging import load_page
from quantry_store.tables import JobRow, PipelineRow


class PipelineRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, project_id: str, pipeline_id: str) -> PipelineDetail:
        """Returns a pipeline with the newest job of each step, in the order of their needs; raises UnknownPipeline."""
        statement = select(PipelineRow).where(PipelineRow.id == pipeline_id, PipelineRow.project_id == project_id)
        row = (await self._session.scalars(statement)).one_or_none()
        if row is None:
            raise _unknown(pipeline_id)
        jobs = newest_jobs(await self.jobs(row.id))
        return PipelineDetail(**dict(_pipeline(row, [job.status for job in jobs])), jobs=jobs)

    async def list(
        self,
        project_id: str,
        *,
        after: str | None = None,
        limit: int = DEFAULT_LIMIT,
        labels: Sequence[Requirement] = (),
        schedule_id: str | None = None,
    ) -> Page[Pipeline]:
        """Returns a page of a project's pipelines, newest first, narrowed to those with such labels or of one schedule."""
        statement = select(PipelineRow).where(PipelineRow.project_id == project_id, *label_conditions(PipelineRow.labels, labels))
        if schedule_id is not None:
            statement = statement.where(PipelineRow.schedule_id == schedule_id)
        found: dict[str, PipelineRow] = {}

        def bare(row: PipelineRow) -> Pipeline:
            found[row.id] = row
            return _pipeline(row, [])

        page = await load_page(self._session, statement, PipelineRow.id, lambda row: bare(row[0]), after=after, limit=limit)
        statuses = await self._statuses(found)
        return page.model_copy(update={"data": [_pipeline(found[item.id], statuses[item.id]) for item in page.data]})

    async def add(self, project_id: str, submission: PipelineSubmission, *, schedule_id: str | None, created_by_key_id: str) -> str:
        """Returns the id of a new pipeline without jobs."""
        row = PipelineRow(
            id=new_id(IdPrefix.PIPELINE),
            project_id=project_id,
            name=submission.name,
            labels=submission.labels,
            metadata_=submission.metadata,
            schedule_id=schedule_id,
            created_by_key_id=created_by_key_id,
        )
        self._session.add(row)
        await self._session.flush()
        return row.id

    async def lock(self, project_id: str, pipeline_id: str) -> None:
        """Keeps others from cancelling or repeating a pipeline's jobs until the transaction ends; raises UnknownPipeline.

        Locked before any job. Workers and the release of waiting jobs do not look at it.
        """
        statement = (
            select(PipelineRow.id)
            .where(PipelineRow.id == pipeline_id, PipelineRow.project_id == project_id)
            .with_for_update(key_share=True)
        )
        if (await self._session.scalars(statement)).one_or_none() is None:
            raise _unknown(pipeline_id)

    async def jobs(self, pipeline_id: str) -> builtins.list[Job]:
        """Returns every job of a pipeline, those that were repeated too, oldest first. Callers have looked it up in its project.

        Raises UnreadableJob.
        """
        statement = select(JobRow).where(JobRow.pipeline_id == pipeline_id).order_by(JobRow.created_at, JobRow.id)
        with knowing_words(f"a job of pipeline {pipeline_id}"):
            rows = (await self._session.scalars(statement, execution_options={"populate_existing": True})).all()
        return [to_job(row) for row in rows]

    async def _statuses(self, pipeline_ids: Collection[str]) -> dict[str, builtins.list[JobStatus]]:
        """Returns for each pipeline where the newest job of each of its steps is."""
        statement = (
            select(JobRow.pipeline_id, JobRow.status)
            .where(JobRow.pipeline_id.in_(pipeline_ids))
            .ext(distinct_on(JobRow.pipeline_id, JobRow.step))
            .order_by(JobRow.pipeline_id, JobRow.step, JobRow.created_at.desc(), JobRow.id.desc())
        )
        statuses: dict[str, builtins.list[JobStatus]] = {pipeline_id: [] for pipeline_id in pipeline_ids}
        for pipeline_id, status in await self._session.execute(statement):
            statuses[pipeline_id or ""].append(status)
        return statuses


def _pipeline(row: PipelineRow, statuses: Sequence[JobStatus]) -> Pipeline:
    return Pipeline(
        id=row.id,
        project_id=row.project_id,
        name=row.name,
        status=pipeline_status(statuses),
        num_jobs=dict(Counter(statuses)),
        labels=row.labels,
        metadata=row.metadata_,
        schedule_id=row.schedule_id,
        created_at=row.created_at,
    )


def _unknown(pipeline_id: str) -> UnknownPipeline:
    return UnknownPipeline(f"there is no pipeline {pipeline_id!r}")
