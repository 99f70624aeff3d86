# Made from quantry/aio/resources/uploads.py by make_sync.py: change that file, and run this again.
"""Uploads: a model's files sent to the server, one by one, to be imported together."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from pathlib import Path

from quantry.errors import UploadDamaged
from quantry.folders import master_folder
from quantry.messages import Progress, path_part
from quantry.paging import every
from quantry.runtime import off_loop
from quantry.transport import Transport
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.uploads import Upload
from quantry_core.versions import ManifestFile

_PATH = "/api/v1/uploads"
_READ_BYTES = 1024**2
_IDLE_S = 600.0
"""The server answers once the file lies in the vault under its digest; a copy of many GB takes its time."""


class Uploads:
    """``client.uploads``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self) -> Upload:
        """Returns a new upload without files."""
        return self._transport.post(Upload, _PATH)

    def get(self, upload_id: str) -> Upload:
        """Returns an upload with the files that have arrived."""
        return self._transport.get(Upload, f"{_PATH}/{path_part(upload_id)}")

    def list(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Upload]:
        """Returns one page of uploads that have not expired, newest first, without their files."""
        return self._transport.get(Page[Upload], _PATH, {"after": after, "limit": limit})

    def iterate(self, *, max_items: int | None = None) -> Generator[Upload, None, None]:
        """Yields every upload that has not expired, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.list(after=after, limit=limit), max_items)

    def delete(self, upload_id: str) -> None:
        """Removes an upload; what was imported from it stays."""
        self._transport.delete(f"{_PATH}/{path_part(upload_id)}")

    def put(self, upload_id: str, path: str, file: Path, *, progress: Progress = lambda _num_bytes: None) -> ManifestFile:
        """Sends one file and returns it as the server stored it; raises UploadDamaged if those are not the bytes that were read here."""
        digest = hashlib.sha256()
        num_sent = 0

        def body() -> Iterator[bytes]:
            nonlocal digest, num_sent
            progress(-num_sent)
            digest, num_sent = hashlib.sha256(), 0
            with file.open("rb") as stream:
                while piece := off_loop(stream.read, _READ_BYTES):
                    digest.update(piece)
                    yield piece
                    num_sent += len(piece)
                    progress(len(piece))

        size_bytes = off_loop(file.stat).st_size
        headers = {"content-type": "application/octet-stream", "content-length": str(size_bytes)}
        target = f"{_PATH}/{path_part(upload_id)}/files/{path}"
        response = self._transport.send("PUT", target, content=body, headers=headers, idle_s=_IDLE_S)
        stored = ManifestFile.model_validate_json(response.content)
        if stored.sha256 != digest.hexdigest():
            raise UploadDamaged(f"{path} was stored with SHA-256 {stored.sha256}, sent was {digest.hexdigest()}; send it again")
        return stored

    def send(self, directory: Path, *, progress: Progress = lambda _num_bytes: None) -> Upload:
        """Returns an upload of all files of a folder. Raises UploadRefused, before anything is sent, if it is no 16-bit master."""
        folder = off_loop(master_folder, directory)
        upload = self.create()
        for path in folder.files():
            self.put(upload.id, path, folder.path_of(path), progress=progress)
        return self.get(upload.id)
