"""What a backup says of itself. Everything else of it is named here by digest, and the manifest by its own."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from quantry_blobs.errors import UnknownBlob
from quantry_blobs.stores import Stored
from quantry_core.ids import uuid7
from quantry_registry.backup.places import Place
from quantry_store.repositories.blobs import Blob

FORMAT = 1
BACKUPS_PREFIX = "backups/"
BLOBS_PREFIX = "blobs/"
MANIFEST, DUMP, BLOB_LIST = "manifest.json", "database.dump", "blobs.jsonl"
NUM_FOLDER_CHARS = 2


class BackupError(Exception):
    """A backup cannot be made, is damaged, or cannot be restored. The message names what, and says what to do."""


class FileDigest(BaseModel):
    """A file of the backup."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @classmethod
    def of(cls, stored: Stored) -> Self:
        return cls(size_bytes=stored.size_bytes, sha256=stored.sha256)

    @property
    def stored(self) -> Stored:
        return Stored(self.size_bytes, self.sha256)


class Manifest(BaseModel):
    """One backup. A manifest that lacks a field, has another or was changed is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = Field(description="Version of this layout.")
    id: str = Field(pattern=r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$")
    taken_at: AwareDatetime = Field(description="The moment whose state this is, by the database's clock.")
    revision: str = Field(description="Newest migration that the database had.")
    postgres_major: int = Field(description="Of the server; one that is older cannot take the dump.")
    pg_dump_major: int = Field(description="Of the program that wrote the dump; an older pg_restore cannot read it.")
    quantry: str = Field(description="Version of the code that made it.")
    vault_bucket: str
    num_blobs: int = Field(ge=0)
    num_bytes: int = Field(ge=0, description="Of all blobs together.")
    num_left_out: int = Field(ge=0, description="Blobs that nothing held, or only checkpoints of training jobs.")
    dump: FileDigest
    blob_list: FileDigest

    def stream(self) -> io.BytesIO:
        """Returns the manifest as it is written: with the SHA-256 of everything else in it."""
        document = self.model_dump(mode="json")
        return io.BytesIO((json.dumps({**document, "manifest_sha256": _digest(document)}, indent=2) + "\n").encode())

    @classmethod
    def parse(cls, name: str, content: bytes) -> Self:
        """Returns the manifest; raises BackupError naming what is wrong with it."""
        try:
            document = json.loads(content)
            claimed = document.pop("manifest_sha256")
        except (ValueError, TypeError, KeyError, AttributeError):
            raise BackupError(f"{name} is damaged: it is no manifest of a backup") from None
        if document.get("format") != FORMAT:
            raise BackupError(f"{name} is of layout {document.get('format')!r}, and this release reads layout {FORMAT}")
        if claimed != _digest(document):
            raise BackupError(f"{name} is damaged: it is not what its own digest says")
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise BackupError(f"{name} is damaged: {error.errors()[0]['msg']}") from None


def new_backup_id(taken_at: datetime) -> str:
    """Returns an id that sorts by time, to the microsecond: ``20261122T093000Z-1a2b3c4d``."""
    return f"{taken_at:%Y%m%dT%H%M%SZ}-{taken_at.microsecond:05x}{uuid7().hex[-3:]}"


def file_of(backup_id: str, name: str) -> str:
    """Returns the name of one of a backup's own files."""
    return f"{BACKUPS_PREFIX}{backup_id}/{name}"


def blob_file(sha256: str) -> str:
    """Returns the name of a blob, the same in every backup of a place."""
    return f"{BLOBS_PREFIX}{sha256[:NUM_FOLDER_CHARS]}/{sha256}"


def blob_list(blobs: Iterable[Blob]) -> io.BytesIO:
    """Returns the list of a backup's blobs, one JSON object for each line."""
    lines = (json.dumps({"sha256": blob.sha256, "size_bytes": blob.size_bytes}) for blob in blobs)
    return io.BytesIO("".join(f"{line}\n" for line in lines).encode())


def read_blob_list(place: Place, manifest: Manifest) -> list[Blob]:
    """Returns the blobs of a backup; raises BackupError where the list is missing or is not what the manifest says."""
    name = file_of(manifest.id, BLOB_LIST)
    try:
        content = place.read(name)
    except UnknownBlob:
        raise BackupError(f"{name} is missing") from None
    if FileDigest(size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest()) != manifest.blob_list:
        raise BackupError(f"{name} is damaged: it is not what the manifest says")
    return [Blob(**json.loads(line)) for line in content.splitlines()]


def manifests(place: Place) -> Iterator[str]:
    """Yields the ids of a place's whole backups, oldest first."""
    for name in place.names(BACKUPS_PREFIX):
        backup_id, _, file = name.removeprefix(BACKUPS_PREFIX).partition("/")
        if file == MANIFEST:
            yield backup_id


def load_manifest(place: Place, backup_id: str | None) -> Manifest:
    """Returns a backup of a place, its newest whole one where ``backup_id`` is None; raises BackupError."""
    known: Sequence[str] = list(manifests(place))
    if backup_id is None and not known:
        raise BackupError(f"there is no whole backup in {place}")
    if backup_id is not None and backup_id not in known:
        raise BackupError(f"there is no whole backup {backup_id} in {place}; there are: {', '.join(known) or 'none'}")
    name = file_of(backup_id or known[-1], MANIFEST)
    return Manifest.parse(name, place.read(name))


def _digest(document: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
