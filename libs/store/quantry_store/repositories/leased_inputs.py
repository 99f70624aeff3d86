"""What a job's inputs consist of, as a worker fetches them: three statements at most, however many inputs there are, and one more
for the checkpoint that a training job goes on from."""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import ARRAY, Select, Text, any_, bindparam, select
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.datasets import DATASET_FILES, DatasetKind
from quantry_core.errors import UnknownDataset, UnknownVersion
from quantry_core.execution import LeasedInput
from quantry_core.jobs import FinetuneSpec, ImportSpec, InputRole, Job, JobInput
from quantry_core.methods import Format
from quantry_core.sources import UploadSource, parse_source
from quantry_core.versions import ManifestFile, VersionKind
from quantry_store.repositories.checkpoints import newest_files
from quantry_store.tables import DatasetRow, ModelRow, UploadFileRow, VersionFileRow, VersionRow

Found = dict[str, dict[str, Any]]
"""The fields of a LeasedInput but for its role, by id."""


class LeasedInputRepository:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def of(self, job: Job) -> list[LeasedInput]:
        """Returns the inputs of a job in their order, and the newest checkpoint of a training job as the last, where one is kept.

        Raises UnknownVersion or UnknownDataset if an input is not there. An import of an upload has that as its only input, without
        files once it is gone.
        """
        if isinstance(job.spec, ImportSpec):
            return await self._upload(job.project_id, job.spec.source)
        found: Found = {}
        version_ids = [item.version_id for item in job.inputs if item.version_id is not None]
        if version_ids:
            found |= await self._versions(job.project_id, version_ids)
        dataset_ids = [item.dataset_id for item in job.inputs if item.dataset_id is not None]
        if dataset_ids:
            found |= await self._datasets(job.project_id, dataset_ids)
        inputs = [_leased(item, found) for item in job.inputs]
        # Before the first attempt there is none, but of the job that this one is a retry of.
        if isinstance(job.spec, FinetuneSpec) and (job.attempt > 1 or job.retry_of is not None):
            inputs += await self._checkpoint(job)
        return inputs

    async def _checkpoint(self, job: Job) -> list[LeasedInput]:
        rows = (await self._session.execute(newest_files(), {"of_job": job.id})).all()
        files = [ManifestFile(path=path, size_bytes=size_bytes, sha256=sha256) for _, path, size_bytes, sha256 in rows]
        return [LeasedInput(role=InputRole.CHECKPOINT, id=job.id, ref=f"step {rows[0][0]}", files=files)] if rows else []

    async def _upload(self, project_id: str, source: str) -> list[LeasedInput]:
        parsed = parse_source(source)
        if not isinstance(parsed, UploadSource):
            return []
        statement = select(UploadFileRow).where(UploadFileRow.upload_id == parsed.upload_id, UploadFileRow.project_id == project_id)
        rows = await self._session.scalars(statement.order_by(UploadFileRow.path))
        files = [ManifestFile(path=row.path, size_bytes=row.size_bytes, sha256=row.sha256) for row in rows]
        return [LeasedInput(role=InputRole.SOURCE, id=parsed.upload_id, ref=source, files=files)]

    async def _versions(self, project_id: str, ids: list[str]) -> Found:
        files: dict[str, list[ManifestFile]] = {}
        for version_id, path, size_bytes, sha256 in await self._session.execute(_files(), {"of_ids": ids}):
            files.setdefault(version_id, []).append(ManifestFile(path=path, size_bytes=size_bytes, sha256=sha256))
        rows = await self._session.execute(_versions(), {"of_project": project_id, "of_ids": ids})
        return {
            version_id: {"ref": f"{name}@{number}", "kind": kind, "format": format, "recipe": recipe, "files": files.get(version_id, [])}
            for version_id, name, number, kind, format, recipe in rows
        }

    async def _datasets(self, project_id: str, ids: list[str]) -> Found:
        rows = await self._session.execute(_datasets(), {"of_project": project_id, "of_ids": ids})
        return {
            dataset_id: {
                "ref": f"{name}@{number}",
                "dataset_kind": kind,
                "files": [ManifestFile(path=DATASET_FILES[kind], size_bytes=size_bytes, sha256=sha256)],
            }
            for dataset_id, name, number, kind, size_bytes, sha256 in rows
        }


def _leased(item: JobInput, found: Found) -> LeasedInput:
    input_id = item.version_id or item.dataset_id or ""
    if input_id not in found:
        unknown = UnknownVersion if item.version_id is not None else UnknownDataset
        raise unknown(f"the input {item.ref!r} of this job is not there any more")
    return LeasedInput(role=item.role, id=input_id, **found[input_id])


# Built once: every claim runs them, and to build them takes longer than Postgres takes to answer.


@cache
def _versions() -> Select[str, str, int, VersionKind, Format, dict[str, Any]]:
    columns = (VersionRow.id, ModelRow.name, VersionRow.number, VersionRow.kind, VersionRow.format, VersionRow.recipe)
    statement = select(*columns).join(ModelRow, ModelRow.id == VersionRow.model_id)
    return statement.where(VersionRow.id == any_(_ids()), VersionRow.project_id == bindparam("of_project", type_=Text))


@cache
def _files() -> Select[str, str, int, str]:
    columns = (VersionFileRow.version_id, VersionFileRow.path, VersionFileRow.size_bytes, VersionFileRow.sha256)
    return select(*columns).where(VersionFileRow.version_id == any_(_ids())).order_by(VersionFileRow.version_id, VersionFileRow.path)


@cache
def _datasets() -> Select[str, str, int, DatasetKind, int, str]:
    columns = (DatasetRow.id, DatasetRow.name, DatasetRow.number, DatasetRow.kind, DatasetRow.size_bytes, DatasetRow.sha256)
    return select(*columns).where(DatasetRow.id == any_(_ids()), DatasetRow.project_id == bindparam("of_project", type_=Text))


def _ids() -> Any:
    return bindparam("of_ids", type_=ARRAY(Text))
