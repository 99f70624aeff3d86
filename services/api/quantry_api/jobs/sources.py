"""Looks at an import's source before a job is made of it, so that what cannot work is refused right away."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import check_master, inspect_checkpoint
from quantry_core.errors import SourceRefused
from quantry_core.sources import BucketSource, allowing_root, check_bucket, parse_source


@dataclass(frozen=True)
class ImportPlaces:
    """Where imports may read, beside the hub and uploads."""

    roots: Sequence[Path] = ()
    """Absolute folders."""
    buckets: Collection[str] = ()


async def check_source(source: str, places: ImportPlaces) -> None:
    """Raises SourceRefused if a source cannot be imported; reads headers and JSON only, no tensor.

    A hub repository is looked at by the worker, which may reach the hub, and so is what lies in a bucket or below a root
    that this host does not have; the worker applies the same rules to all of them.
    """
    match parse_source(source):
        case Path() as path:
            await asyncio.to_thread(_check_directory, path, places.roots)
        case BucketSource(bucket=bucket):
            check_bucket(bucket, places.buckets)
        case _:
            pass


def _check_directory(path: Path, roots: Sequence[Path]) -> None:
    try:
        resolved = path.resolve()
        if not allowing_root(path, resolved, {root.resolve(): root for root in roots}).is_dir():
            return
        if not resolved.is_dir():
            raise SourceRefused(f"there is no directory {path}")
        checkpoint = DirectoryCheckpoint(resolved)
        if checkpoint.root != resolved:
            # A link was put in its place after the look at where it lies.
            raise SourceRefused(f"{path} changed while it was looked at")
        check_master(inspect_checkpoint(checkpoint))
    except (OSError, RuntimeError) as error:
        # Path.resolve raises RuntimeError for links that lead in a circle.
        raise SourceRefused(f"{path} cannot be read: {error}") from error
