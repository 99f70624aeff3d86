"""Takes files of an upload in: streamed into the vault, then noted. A file that did not arrive whole leaves nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import BinaryIO, cast

from quantry_core.checkpoints import check_listing
from quantry_core.keys import Identity
from quantry_core.versions import ManifestFile
from quantry_registry.keeping import keep
from quantry_registry.parts import Parts
from quantry_registry.uploads.bodies import BodyReader
from quantry_store.database import Database


async def add_file(
    database: Database, parts: Parts, caller: Identity, upload_id: str, path: str, *, pieces: AsyncIterator[bytes], sha256: str | None
) -> ManifestFile:
    """Returns the file, in the vault and noted as one of the upload. The same path again takes the other's place.

    Raises NotFound, SourceRefused for a file that no checkpoint may have, Conflict while an import uses the upload, TooLarge,
    InvalidInput where the bytes are not those of ``sha256`` (hex), BodyStalled where they stop coming, Unavailable where as many
    files are being uploaded as may be.
    """
    async with database.begin() as uow:
        upload = await uow.uploads.get(caller.project_id, upload_id)
    # Before the bytes: nobody should send gigabytes of a pickle to hear of it then.
    check_listing({file.path: file.size_bytes for file in upload.files} | {path: 0})
    settings = parts.settings
    reader = cast(BinaryIO, BodyReader(pieces, asyncio.get_running_loop(), sha256, idle_s=settings.upload_idle_s))
    stored = await parts.upload_slots.run(partial(parts.vault.put_stream, reader, settings.max_upload_file_bytes))
    await keep(database, parts.vault, stored)
    file = ManifestFile(path=path, size_bytes=stored.size_bytes, sha256=stored.sha256)
    async with database.begin() as uow:
        # Looked up again: it may have expired while the bytes came.
        held = await uow.uploads.hold(caller.project_id, upload_id)
        await uow.uploads.put(held, file, lifetime_s=parts.settings.upload_lifetime_s)
        await uow.audit.record(caller, "upload.file", "upload", upload_id, file.model_dump(mode="json"))
    return file
