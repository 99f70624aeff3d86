"""Uploads: files on their way to become a version. Their bytes are in the vault already, and count as used while the upload lives."""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import ColumnElement, Exists, SQLColumnExpression, delete, exists, func, literal, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from quantry_core.errors import Conflict, NotFound, SourceRefused
from quantry_core.ids import IdPrefix, new_id
from quantry_core.keys import Identity
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.sources import UPLOAD_PREFIX, UploadSource, parse_source
from quantry_core.uploads import Upload
from quantry_core.versions import ManifestFile
from quantry_store.repositories.blobs import BlobRepository
from quantry_store.repositories.open_jobs import is_open_in
from quantry_store.repositories.paging import load_page
from quantry_store.tables import JobRow, UploadFileRow, UploadRow

RESERVED_S = 3600.0
"""An upload lives so long at least, once an import of it was submitted: for its retries."""


class UploadRepository:
    def __init__(self, session: AsyncSession, *, blobs: BlobRepository) -> None:
        self._session = session
        self._blobs = blobs

    async def create(self, who: Identity, *, lifetime_s: float) -> Upload:
        """Returns a new upload without files that expires in ``lifetime_s`` seconds, by the database's clock."""
        row = UploadRow(
            id=new_id(IdPrefix.UPLOAD),
            project_id=who.project_id,
            created_by_key_id=who.key_id,
            expires_at=func.now() + timedelta(seconds=lifetime_s),
        )
        self._session.add(row)
        await self._session.flush()
        await self._session.refresh(row)
        return _upload(row, [])

    async def get(self, project_id: str, upload_id: str) -> Upload:
        """Returns an upload with its files; raises NotFound for one that is not there, of another project, or has expired."""
        statement = select(UploadRow).where(
            UploadRow.id == upload_id, UploadRow.project_id == project_id, UploadRow.expires_at > func.now()
        )
        row = (await self._session.scalars(statement)).one_or_none()
        if row is None:
            raise NotFound(f"there is no upload {upload_id!r}; it may have expired")
        return _upload(row, await self.files(upload_id))

    async def list(self, project_id: str, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Upload]:
        """Returns a page of a project's uploads that have not expired, newest first, without their files."""
        statement = select(UploadRow).where(UploadRow.project_id == project_id, UploadRow.expires_at > func.now())
        return await load_page(self._session, statement, UploadRow.id, lambda row: _upload(row[0], []), after=after, limit=limit)

    async def files(self, upload_id: str) -> builtins.list[ManifestFile]:
        """Returns what has arrived, by path. Callers have looked the upload up in its project."""
        rows = await self._session.scalars(select(UploadFileRow).where(UploadFileRow.upload_id == upload_id).order_by(UploadFileRow.path))
        return [ManifestFile(path=row.path, size_bytes=row.size_bytes, sha256=row.sha256) for row in rows]

    async def hold(self, project_id: str, upload_id: str) -> Upload:
        """Returns an upload, kept as it is until the transaction ends; raises NotFound."""
        statement = select(UploadRow.id).where(UploadRow.id == upload_id, UploadRow.project_id == project_id)
        await self._session.execute(statement.with_for_update())
        return await self.get(project_id, upload_id)

    async def hold_sources(self, project_id: str, sources: Iterable[str]) -> None:
        """Locks the uploads among the sources of several imports until the transaction ends, before anything else is locked for them.

        What cannot be imported is refused by ``reserve``, for each import of its own.
        """
        upload_ids = [source.removeprefix(UPLOAD_PREFIX) for source in sources if source.startswith(UPLOAD_PREFIX)]
        statement = select(UploadRow.id).where(UploadRow.project_id == project_id, UploadRow.id.in_(upload_ids)).order_by(UploadRow.id)
        await self._session.execute(statement.with_for_update())

    async def put(self, upload: Upload, file: ManifestFile, *, lifetime_s: float) -> None:
        """Notes a file whose bytes are in the vault; one of the same path takes the other's place. Hold the upload before.

        The upload lives ``lifetime_s`` seconds from now at least: however long all its files take, the next one finds it.

        Raises Conflict while an unfinished job imports the upload: it takes what was there when it was submitted.
        """
        await self._check_not_imported(upload)
        await self._blobs.add({file.sha256: file.size_bytes})
        values = {"upload_id": upload.id, "project_id": upload.project_id, **file.model_dump()}
        await self._session.execute(
            insert(UploadFileRow)
            .values(values)
            .on_conflict_do_update(
                index_elements=[UploadFileRow.upload_id, UploadFileRow.path],
                set_={"sha256": file.sha256, "size_bytes": file.size_bytes},
            )
        )
        await self._keep(upload, lifetime_s)

    async def delete(self, project_id: str, upload_id: str) -> None:
        """Removes an upload; raises NotFound, or Conflict while an unfinished job imports it."""
        upload = await self.hold(project_id, upload_id)
        await self._check_not_imported(upload)
        await self._session.execute(delete(UploadRow).where(UploadRow.id == upload.id))

    async def delete_expired(self) -> dict[str, str]:
        """Removes the uploads of every project that have expired and that no unfinished job imports; returns their ids, each with its
        project's."""
        imported = _is_imported(UploadRow.project_id, literal(UPLOAD_PREFIX) + UploadRow.id)
        statement = delete(UploadRow).where(UploadRow.expires_at <= func.now(), ~imported).returning(UploadRow.id, UploadRow.project_id)
        gone = await self._session.execute(statement, execution_options={"synchronize_session": False})
        return {upload_id: project_id for upload_id, project_id in gone}

    async def reserve(self, project_id: str, source: str) -> None:
        """Keeps the upload that a source names for its import, RESERVED_S from now at least; does nothing for other sources.

        Raises SourceRefused if the upload cannot be imported: unknown, of another project, expired, or empty.
        """
        parsed = parse_source(source)
        if not isinstance(parsed, UploadSource):
            return
        try:
            upload = await self.hold(project_id, parsed.upload_id)
        except NotFound as error:
            raise SourceRefused(error.detail) from error
        if not upload.files:
            raise SourceRefused(f"nothing was uploaded to {upload.id} yet; send its files first")
        # Written, not only locked: a sweep that waits for this row then looks at its new time, and the job may be retried.
        await self._keep(upload, RESERVED_S)

    async def _keep(self, upload: Upload, lifetime_s: float) -> None:
        later = func.greatest(UploadRow.expires_at, func.now() + timedelta(seconds=lifetime_s))
        await self._session.execute(update(UploadRow).where(UploadRow.id == upload.id).values(expires_at=later))

    async def _check_not_imported(self, upload: Upload) -> None:
        if await self._session.scalar(select(_is_imported(literal(upload.project_id), literal(upload.source)))):
            raise Conflict(f"an unfinished job imports {upload.id}; wait for it or cancel it")


def _is_imported(project_id: SQLColumnExpression[str], source: ColumnElement[str]) -> Exists:
    """Tells of a source whether a job of the project that is not over imports it."""
    return exists().where(is_open_in(project_id), func.jsonb_extract_path_text(JobRow.spec, "source") == source)


def _upload(row: UploadRow, files: builtins.list[ManifestFile]) -> Upload:
    return Upload(id=row.id, project_id=row.project_id, created_at=row.created_at, expires_at=row.expires_at, files=files)
