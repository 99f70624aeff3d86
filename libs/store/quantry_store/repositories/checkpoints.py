"""Checkpoints of training jobs: where they got to, and the files that it takes to go on from there."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache

from sqlalchemy import ColumnElement, Select, Text, bindparam, delete, exists, func, or_, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import NotFound
from quantry_core.execution import CheckpointReport
from quantry_core.jobs import FINAL_STATUSES, Job, JobCheckpoint, JobStatus
from quantry_core.retention import Over, Removed
from quantry_core.versions import ManifestFile
from quantry_store.references import fits_integer
from quantry_store.repositories.blobs import BlobRepository
from quantry_store.tables import JobCheckpointFileRow, JobCheckpointRow, JobRow

MAX_LISTED = 1000

INHERITED = 0
"""The attempt of a checkpoint that a job took over from the one it is a retry of."""


class CheckpointRepository:
    def __init__(self, session: AsyncSession, *, blobs: BlobRepository) -> None:
        self._session = session
        self._blobs = blobs

    async def furthest_step(self, job_id: str) -> int | None:
        """Returns the furthest step that any attempt of a job got to; None before the first checkpoint."""
        return await self._session.scalar(select(func.max(JobCheckpointRow.step)).where(JobCheckpointRow.job_id == job_id))

    async def add(self, job: Job, report: CheckpointReport) -> None:
        """Notes a checkpoint of a held job, whose seal was checked; one of the same step, of an earlier attempt, makes way for it.

        Raises SealRefused for bytes that are not in the vault.
        """
        await self._blobs.check_sealed(report.files)
        await self._drop_files([JobCheckpointFileRow.job_id == job.id, JobCheckpointFileRow.step == report.step])
        await self._write(job.project_id, job.id, report)

    async def take_over(self, job: Job, old: Job) -> int | None:
        """Gives a job the newest checkpoint of another one whose files are kept; returns its step, None if there is none."""
        step = await self._session.scalar(_newest_kept(old.id))
        if step is None:
            return None
        # Held, so that no sweep lets go of the files before the new job has them.
        held = _files_of(old.id, step).with_for_update(read=True, key_share=True)
        files = [_manifest(row) for row in await self._session.scalars(held)]
        if not files:
            return None
        checkpoint = (await self._session.scalars(select(JobCheckpointRow).where(*_is(old.id, step)))).one()
        report = CheckpointReport(attempt=INHERITED, step=step, files=files, metrics=checkpoint.metrics)
        await self._write(job.project_id, job.id, report)
        return step

    async def list(self, project_id: str, job_id: str) -> builtins.list[JobCheckpoint]:
        """Returns the newest MAX_LISTED checkpoints of a job, newest first; an empty list for a job that is not there."""
        statement = (
            select(JobCheckpointRow, _has_files())
            .where(JobCheckpointRow.job_id == job_id, JobCheckpointRow.project_id == project_id)
            .order_by(JobCheckpointRow.attempt.desc(), JobCheckpointRow.step.desc())
            .limit(MAX_LISTED)
        )
        rows = await self._session.execute(statement)
        return [_checkpoint(row, has_files=kept) for row, kept in rows]

    async def furthest(self, project_id: str, job_id: str, limit: int, *, below: int | None) -> builtins.list[JobCheckpoint]:
        """Returns the next checkpoints of a job from step ``below`` down, from the furthest where None."""
        statement = select(JobCheckpointRow, _has_files()).where(
            JobCheckpointRow.job_id == job_id, JobCheckpointRow.project_id == project_id
        )
        if below is not None:
            statement = statement.where(JobCheckpointRow.step < below)
        rows = await self._session.execute(statement.order_by(JobCheckpointRow.step.desc()).limit(limit))
        return [_checkpoint(row, has_files=kept) for row, kept in rows]

    async def files(self, project_id: str, job_id: str, step: int) -> builtins.list[ManifestFile]:
        """Returns the files of a checkpoint that are kept, by path; raises NotFound if there are none."""
        statement = _files_of(job_id, step).where(JobCheckpointFileRow.project_id == project_id)
        files = [_manifest(row) for row in await self._session.scalars(statement)] if fits_integer(step) else []
        if not files:
            raise NotFound(f"no files of step {step} of job {job_id!r} are kept")
        return files

    async def keep_newest(self, job_id: str, number: int) -> None:
        """Lets go of the files of all but the newest ``number`` checkpoints of a job."""
        newest = (
            select(JobCheckpointRow.step)
            .where(JobCheckpointRow.job_id == job_id)
            .order_by(JobCheckpointRow.attempt.desc(), JobCheckpointRow.step.desc())
            .limit(number)
        )
        await self._drop_files([JobCheckpointFileRow.job_id == job_id, JobCheckpointFileRow.step.not_in(newest)])

    async def drop(self, job_id: str) -> None:
        """Lets go of all files of a job's checkpoints."""
        await self._drop_files([JobCheckpointFileRow.job_id == job_id])

    async def drop_with(self, sha256: str) -> None:
        """Lets go of the files of every checkpoint that has these bytes: nobody can go on from it."""
        spoilt = select(JobCheckpointFileRow.job_id, JobCheckpointFileRow.step).where(JobCheckpointFileRow.sha256 == sha256)
        await self._drop_files([tuple_(JobCheckpointFileRow.job_id, JobCheckpointFileRow.step).in_(spoilt)])

    async def drop_old(self, retention_s: float | None, *, max_jobs: int) -> Removed:
        """Lets go of the files of at most ``max_jobs`` jobs that ended ``retention_s`` seconds ago (None: those stay), or succeeded;
        returns how many files that were, and their size."""
        over = _over(retention_s).order_by(JobRow.id).limit(max_jobs).with_for_update(skip_locked=True, key_share=True)
        job_ids = (await self._session.scalars(over)).all()
        if not job_ids:
            return Removed(0)
        gone = delete(JobCheckpointFileRow).where(JobCheckpointFileRow.job_id.in_(job_ids)).returning(JobCheckpointFileRow.size_bytes)
        sizes = (await self._session.scalars(gone.execution_options(synchronize_session=False))).all()
        return Removed(len(sizes), sum(sizes), has_more=True)

    async def old_files(self, retention_s: float | None) -> Over:
        """Returns what ``drop_old`` would let go of, of all jobs together."""
        counted = select(func.count(), func.coalesce(func.sum(JobCheckpointFileRow.size_bytes), 0))
        num, size_bytes = (await self._session.execute(counted.where(JobCheckpointFileRow.job_id.in_(_over(retention_s))))).one()
        return Over(num, int(size_bytes))

    async def oldest_kept_at(self) -> datetime | None:
        """Returns when the oldest checkpoint was reported whose files are kept; None where there is none."""
        return await self._session.scalar(select(func.min(JobCheckpointRow.created_at)).where(_has_files()))

    async def _write(self, project_id: str, job_id: str, report: CheckpointReport) -> None:
        size_bytes = sum(file.size_bytes for file in report.files)
        written = {"attempt": report.attempt, "size_bytes": size_bytes, "metrics": report.metrics}
        statement = insert(JobCheckpointRow).values(job_id=job_id, step=report.step, project_id=project_id, **written)
        latest = written | {"created_at": func.now()}
        await self._session.execute(
            statement.on_conflict_do_update(index_elements=[JobCheckpointRow.job_id, JobCheckpointRow.step], set_=latest)
        )
        # Sorted, as blobs are locked wherever several are.
        rows = [
            {
                "job_id": job_id,
                "step": report.step,
                "path": file.path,
                "project_id": project_id,
                "sha256": file.sha256,
                "size_bytes": file.size_bytes,
            }
            for file in sorted(report.files, key=lambda file: file.sha256)
        ]
        await self._session.execute(insert(JobCheckpointFileRow), rows)

    async def _drop_files(self, conditions: Sequence[ColumnElement[bool]]) -> int:
        gone = delete(JobCheckpointFileRow).where(*conditions).returning(JobCheckpointFileRow.path)
        return len((await self._session.scalars(gone.execution_options(synchronize_session=False))).all())


def _over(retention_s: float | None) -> Select[str]:
    """Returns the statement of the jobs that have files of checkpoints which nobody goes on from any more."""
    is_over = JobRow.status == JobStatus.SUCCEEDED
    if retention_s is not None:
        is_over = or_(is_over, JobRow.finished_at < func.now() - timedelta(seconds=retention_s))
    return select(JobRow.id).where(JobRow.id.in_(select(JobCheckpointFileRow.job_id)), JobRow.status.in_(FINAL_STATUSES), is_over)


def _is(job_id: str, step: int) -> tuple[ColumnElement[bool], ...]:
    return JobCheckpointRow.job_id == job_id, JobCheckpointRow.step == step


def _has_files() -> ColumnElement[bool]:
    return exists().where(JobCheckpointFileRow.job_id == JobCheckpointRow.job_id, JobCheckpointFileRow.step == JobCheckpointRow.step)


def _newest_kept(job_id: str | ColumnElement[str]) -> Select[int]:
    """Returns the statement that yields the step of a job's newest checkpoint whose files are kept."""
    return (
        select(JobCheckpointRow.step)
        .where(_has_files())
        .where(JobCheckpointRow.job_id == job_id)
        .order_by(JobCheckpointRow.attempt.desc(), JobCheckpointRow.step.desc())
        .limit(1)
    )


@cache
def newest_files() -> Select[int, str, int, str]:
    """Returns the statement that yields step, path, size in bytes and SHA-256 of the files of the newest checkpoint that is kept of
    the job ``of_job``. Built once: claims run it."""
    job_id = bindparam("of_job", type_=Text)
    columns = (JobCheckpointFileRow.step, JobCheckpointFileRow.path, JobCheckpointFileRow.size_bytes, JobCheckpointFileRow.sha256)
    wanted = (JobCheckpointFileRow.job_id == job_id, JobCheckpointFileRow.step == _newest_kept(job_id).scalar_subquery())
    return select(*columns).where(*wanted).order_by(JobCheckpointFileRow.path)


def _files_of(job_id: str, step: int) -> Select[JobCheckpointFileRow]:
    statement = select(JobCheckpointFileRow).where(JobCheckpointFileRow.job_id == job_id, JobCheckpointFileRow.step == step)
    return statement.order_by(JobCheckpointFileRow.path)


def _manifest(row: JobCheckpointFileRow) -> ManifestFile:
    return ManifestFile(path=row.path, size_bytes=row.size_bytes, sha256=row.sha256)


def _checkpoint(row: JobCheckpointRow, *, has_files: bool) -> JobCheckpoint:
    return JobCheckpoint(
        job_id=row.job_id,
        step=row.step,
        attempt=row.attempt,
        size_bytes=row.size_bytes,
        metrics=row.metrics,
        has_files=has_files,
        created_at=row.created_at,
    )
