"""Looks whether a backup is whole: every byte of it is read and hashed."""

from __future__ import annotations

from quantry_blobs.errors import UnknownBlob
from quantry_blobs.stores import Stored
from quantry_registry.backup.manifest import DUMP, BackupError, Manifest, blob_file, file_of, read_blob_list
from quantry_registry.backup.places import Place
from quantry_registry.backup.progress import Progress, each
from quantry_store.repositories.blobs import Blob


def verify(place: Place, manifest: Manifest, progress: Progress, *, parallel: int) -> list[str]:
    """Returns what is wrong, a sentence for each file; an empty list where the backup is whole."""
    problems = [problem for problem in [_look(place, file_of(manifest.id, DUMP), manifest.dump.stored)] if problem is not None]
    try:
        blobs = read_blob_list(place, manifest)
    except BackupError as error:
        # Which blobs belong to it is not known any more.
        return [*problems, str(error)]

    def look(blob: Blob) -> str | None:
        return _look(place, blob_file(blob.sha256), Stored(blob.size_bytes, blob.sha256))

    found = each(blobs, look, "read", progress, parallel=parallel)
    return [*problems, *(found[blob] or "" for blob in blobs if found[blob] is not None)]


def _look(place: Place, name: str, expected: Stored) -> str | None:
    try:
        found = place.digest(name)
    except UnknownBlob:
        return f"{name} is missing"
    if found.size_bytes != expected.size_bytes:
        return f"{name} is damaged: it has {found.size_bytes} bytes instead of {expected.size_bytes}"
    return None if found == expected else f"{name} is damaged: its bytes are others"
