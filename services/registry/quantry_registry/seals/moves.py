"""Staged files go into the vault: hashed on the way, noted, and looked for once more."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from quantry_core.errors import SealRefused, Unavailable
from quantry_core.versions import ManifestFile
from quantry_registry.keeping import Note, note_kept
from quantry_registry.parts import Parts
from quantry_store.database import Database
from quantry_store.transactions.vault import note_blobs, note_checkpoint_blobs

MAX_ROUNDS = 3
"""A collection takes a blob away at most once, between two looks; a second round finds nothing missing."""


@dataclass(frozen=True)
class Way:
    """How staged files go in."""

    key_of: Callable[[str], str]
    """A path's key in staging."""
    seal: Callable[[str, str, ManifestFile], bool]
    note: Note


def to_keep(parts: Parts, key_of: Callable[[str], str]) -> Way:
    """Returns the way of files that stay: under the vault's retention, removed by a collection alone."""
    return Way(key_of, parts.vault.seal, note_blobs)


def to_go_on_from(parts: Parts, key_of: Callable[[str], str]) -> Way:
    """Returns the way of a checkpoint's files: unless they are files of something else too, they leave with the sweep once no job
    goes on from them."""
    return Way(key_of, parts.vault.seal_removable, note_checkpoint_blobs)


def check_paths(files: Sequence[ManifestFile], max_files: int) -> None:
    """Raises SealRefused for a path that is declared twice, and for more files than may be."""
    path, count = Counter(file.path for file in files).most_common(1)[0]
    if count > 1:
        raise SealRefused(f"{path} is declared {count} times")
    if len(files) > max_files:
        raise SealRefused(f"{len(files)} files are declared, more than the {max_files} that may be")


async def move_in(parts: Parts, files: Sequence[ManifestFile], way: Way) -> int:
    """Moves staged files into the vault; returns how many it did not hold before."""

    async def move(file: ManifestFile) -> bool:
        async with parts.seal_slots:
            return await asyncio.to_thread(way.seal, parts.staging.bucket, way.key_of(file.path), file)

    # All are waited for, so that none is still moving when the refusal is answered.
    results = await asyncio.gather(*(move(file) for file in files), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results.count(True)


async def note_moved(database: Database, parts: Parts, files: Sequence[ManifestFile], way: Way) -> None:
    """Notes files that were moved in, and moves those in again that a collection took away meanwhile; raises Unavailable."""
    for _ in range(MAX_ROUNDS):
        missing = await note_kept(database, parts.vault, files, way.note)
        if not missing:
            return
        await move_in(parts, missing, way)
    raise Unavailable("the vault was being rid of these very bytes; seal them again")
