"""Makes a backup: the database as one moment saw it, then every blob that it refers to, then the manifest that makes it one.

That order needs nobody to stop: blobs are never changed, and what the dump refers to is either in the vault or was collected
since. In that case the backup takes a new moment and goes on with what it has.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from quantry_blobs.errors import DigestMismatch, UnknownBlob
from quantry_blobs.stores import ObjectStore, Stored
from quantry_core.versions import blob_key
from quantry_registry.backup.manifest import (
    BLOB_LIST,
    DUMP,
    FORMAT,
    MANIFEST,
    BackupError,
    FileDigest,
    Manifest,
    blob_file,
    blob_list,
    file_of,
    new_backup_id,
)
from quantry_registry.backup.places import Place
from quantry_registry.backup.progress import Progress, bytes_text, each, total_bytes
from quantry_store.dumps import Snapshot, gone_since, take_snapshot
from quantry_store.postgres_tools import PostgresTools
from quantry_store.repositories.blobs import Blob

MAX_SNAPSHOTS = 5
"""So often a collection may overtake a backup before it gives up."""

MAX_NAMED = 10
"""Blobs that an error names; more are counted."""


@dataclass(frozen=True)
class Source:
    """What is backed up: the database's address, and the vault's bucket."""

    database_url: str
    store: ObjectStore
    vault_bucket: str


def create(source: Source, tools: PostgresTools, place: Place, progress: Progress, *, parallel: int) -> Manifest:
    """Returns the manifest of a whole backup in ``place``. Blobs that lie there already are not copied again, whether another
    backup brought them or one that was broken off.

    Raises BackupError naming the blobs that the vault lacks or has damaged, DumpError, and what place and store raise.
    """
    backup_id = new_backup_id(datetime.now(UTC))
    for _ in range(MAX_SNAPSHOTS):
        snapshot = take_snapshot(source.database_url, tools, lambda stream: place.write(file_of(backup_id, DUMP), stream))
        progress.say(f"database: {bytes_text(snapshot.written.size_bytes)}, revision {snapshot.revision}, as of {snapshot.taken_at:%c %Z}")
        troubles = _copy(source, snapshot.blobs, place, progress, parallel=parallel)
        if not troubles:
            return _seal(backup_id, source, snapshot, tools, place)
        collected = gone_since(source.database_url, [blob.sha256 for blob in troubles])
        known = [blob for blob in troubles if blob.sha256 not in collected]
        # A blob that was collected and sealed anew between the two looks is there by now; what still is not, is lost.
        if known and (lost := _copy(source, known, place, progress, parallel=parallel)):
            raise BackupError(_words(lost))
        progress.say(f"{len(troubles)} blobs were collected meanwhile: going on from a new moment of the database")
    raise BackupError(
        f"the vault was collected {MAX_SNAPSHOTS} times while this backup ran: begin again when no collection runs; what was copied stays"
    )


def _copy(source: Source, blobs: list[Blob], place: Place, progress: Progress, *, parallel: int) -> dict[Blob, str]:
    """Brings every blob into the place; returns those that could not be had, with what is wrong."""
    there = each(blobs, lambda blob: place.size(blob_file(blob.sha256)) == blob.size_bytes, "looked for", progress, parallel=parallel)
    missing = [blob for blob in blobs if not there[blob]]
    progress.say(f"{len(blobs) - len(missing)} of {len(blobs)} blobs are there already, {bytes_text(total_bytes(missing))} to copy")

    def take(blob: Blob) -> str | None:
        name, expected = blob_file(blob.sha256), Stored(blob.size_bytes, blob.sha256)
        try:
            place.take(name, source.store, source.vault_bucket, blob_key(blob.sha256), expected)
        except UnknownBlob:
            return "missing"
        except DigestMismatch:
            return "damaged"
        return None

    taken = each(missing, take, "copied", progress, parallel=parallel)
    return {blob: words for blob, words in taken.items() if words is not None}


def _seal(backup_id: str, source: Source, snapshot: Snapshot[Stored], tools: PostgresTools, place: Place) -> Manifest:
    listed = place.write(file_of(backup_id, BLOB_LIST), blob_list(snapshot.blobs))
    manifest = Manifest(
        format=FORMAT,
        id=backup_id,
        taken_at=snapshot.taken_at.astimezone(UTC),
        revision=snapshot.revision,
        postgres_major=snapshot.server_major,
        pg_dump_major=tools.major,
        quantry=version("quantry-registry"),
        vault_bucket=source.vault_bucket,
        num_blobs=len(snapshot.blobs),
        num_bytes=total_bytes(snapshot.blobs),
        num_left_out=snapshot.num_left_out,
        dump=FileDigest.of(snapshot.written),
        blob_list=FileDigest.of(listed),
    )
    place.write(file_of(backup_id, MANIFEST), manifest.stream())
    return manifest


def _words(troubles: dict[Blob, str]) -> str:
    named = [f"{blob.sha256} ({words})" for blob, words in sorted(troubles.items())]
    more = f" and {len(named) - MAX_NAMED} more" if len(named) > MAX_NAMED else ""
    return (
        f"the vault cannot give {len(named)} blobs: {', '.join(named[:MAX_NAMED])}{more}. `quantry vault verify --wait` tells what "
        "holds them; nothing was written but what was copied"
    )
