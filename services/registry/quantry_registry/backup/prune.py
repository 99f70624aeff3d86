"""Removes old backups of a place, and the blobs that no other backup of it needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from quantry_registry.backup.manifest import (
    BACKUPS_PREFIX,
    BLOBS_PREFIX,
    MANIFEST,
    blob_file,
    file_of,
    load_manifest,
    manifests,
    read_blob_list,
)
from quantry_registry.backup.places import Place


@dataclass(frozen=True)
class Pruned:
    """What was removed: whole backups, leftovers of broken off ones, blobs."""

    backups: Sequence[str]
    unfinished: Sequence[str]
    num_blobs: int


def prune(place: Place, keep: int) -> Pruned:
    """Returns what was removed of ``place``, of which the newest ``keep`` whole backups stay. No backup may run meanwhile.

    Raises BackupError, and removes nothing, where a backup that stays has a damaged manifest or list.
    """
    whole = list(manifests(place))
    num_old = max(len(whole) - keep, 0)
    old, kept = whole[:num_old], whole[num_old:]
    needed = {blob_file(blob.sha256) for backup_id in kept for blob in read_blob_list(place, load_manifest(place, backup_id))}
    files = place.names(BACKUPS_PREFIX)
    unfinished = sorted({name.split("/")[1] for name in files} - set(whole))
    for backup_id in (*old, *unfinished):
        # The manifest first: what is broken off here is no backup any more.
        place.remove(file_of(backup_id, MANIFEST))
        for name in files:
            if name.startswith(f"{BACKUPS_PREFIX}{backup_id}/"):
                place.remove(name)
    unneeded = [name for name in place.names(BLOBS_PREFIX) if name not in needed]
    for name in unneeded:
        place.remove(name)
    return Pruned(old, unfinished, len(unneeded))
