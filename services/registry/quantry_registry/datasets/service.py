"""Takes datasets in: checked while they stream, kept on disk until they are known to be good, and only then put in the vault."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import PurePosixPath
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from quantry_blobs.errors import DigestMismatch, UnknownBlob
from quantry_blobs.stores import Stored
from quantry_blobs.vault import Vault
from quantry_core.datasets import (
    BUILT_IN_PREFIX,
    DATASET_FILES,
    Dataset,
    DatasetKind,
    DatasetOrigin,
    DatasetPreview,
    DatasetRecipe,
    DatasetStatistics,
    Derivation,
    DerivedFrom,
    FilePurpose,
)
from quantry_core.errors import InvalidInput, InvalidName
from quantry_core.keys import Identity
from quantry_core.versions import ManifestFile
from quantry_registry.datasets.derivation import Source, derive
from quantry_registry.datasets.intake import Intake
from quantry_registry.datasets.preview import PREVIEW_BYTES, preview_of
from quantry_registry.keeping import keep
from quantry_registry.parts import Parts
from quantry_store.database import Database
from quantry_store.repositories.datasets import DatasetDraft

MAX_MEMORY_BYTES = 8 * 1024**2
"""What is longer goes to a file in the temporary directory while it is checked."""

READ_BYTES = 1024**2


async def add_dataset(
    database: Database,
    vault: Vault,
    caller: Identity,
    name: str,
    pieces: AsyncIterator[bytes],
    *,
    intake: Intake,
    purpose: FilePurpose | None = None,
) -> tuple[Dataset, bool]:
    """Returns the dataset that these bytes now are, and whether it is new under that name.

    Raises InvalidName for a name of the platform's own; InvalidInput, with lines and reasons, for what cannot be a dataset;
    Conflict where the name has these bytes as another kind, DatasetDeleted where it had them. Nothing was written then, nor when
    the client leaves.
    """
    check_own(name)
    with SpooledTemporaryFile(max_size=MAX_MEMORY_BYTES) as spool:
        file = cast(BinaryIO, spool)
        async for piece in pieces:
            await asyncio.to_thread(_take, intake, file, piece)
        kind, statistics = intake.finish()
        stored = await asyncio.to_thread(_put, vault, file)
    await keep(database, vault, stored)
    return await _record(database, caller, name, stored, DatasetDraft(kind, DatasetOrigin.UPLOADED, statistics, purpose=purpose))


async def derive_dataset(database: Database, parts: Parts, caller: Identity, name: str, recipe: DatasetRecipe) -> tuple[Dataset, bool]:
    """Returns the dataset that a recipe makes, and whether it is new under that name.

    Raises InvalidName, UnknownDataset, Conflict; InvalidInput for parents of different kinds or too many bytes, and where
    nothing is left.
    """
    check_own(name)
    async with database.begin() as uow:
        parents = [await uow.datasets.resolve(caller.project_id, parent.ref) for parent in recipe.parents]
    kind = _same_kind(parents)
    max_bytes = parts.settings.max_dataset_bytes
    if (size_bytes := sum(parent.size_bytes for parent in parents)) > max_bytes:
        raise InvalidInput(f"the parents have {size_bytes} bytes together; a dataset is derived from at most {max_bytes}")
    sources = [Source(parent.ref, parent.kind, partial(parts.vault.open_range, parent.sha256, 0, parent.size_bytes)) for parent in parents]
    # It hashes and keeps a processor busy, as a seal does.
    async with parts.seal_slots:
        stored, statistics = await asyncio.to_thread(_derive, parts.vault, sources, recipe, kind)
    derivation = Derivation(
        parents=[DerivedFrom(id=parent.id, ref=parent.ref, sha256=parent.sha256) for parent in parents],
        # By number: what a name alone means may change.
        recipe=recipe.model_copy(
            update={
                "parents": [given.model_copy(update={"ref": parent.ref}) for given, parent in zip(recipe.parents, parents, strict=True)]
            }
        ),
    )
    draft = DatasetDraft(kind, DatasetOrigin.DERIVED, statistics, derivation.model_dump(mode="json"))
    await keep(database, parts.vault, stored)
    return await _record(database, caller, name, stored, draft)


async def preview(vault: Vault, dataset: Dataset, limit: int) -> DatasetPreview:
    """Returns the first lines or rows of a dataset; raises DigestMismatch if the vault has lost it."""
    try:
        beginning = await asyncio.to_thread(vault.read, dataset.sha256, 0, min(dataset.size_bytes, PREVIEW_BYTES))
    except UnknownBlob as error:
        raise _lost(dataset) from error
    return preview_of(dataset, beginning, limit)


def file_of(dataset: Dataset) -> ManifestFile:
    """Returns a dataset's one file, under the name that a download gives it."""
    suffix = PurePosixPath(DATASET_FILES[dataset.kind]).suffix
    return ManifestFile(path=f"{dataset.name}-{dataset.number}{suffix}", size_bytes=dataset.size_bytes, sha256=dataset.sha256)


def check_own(name: str) -> None:
    """Raises InvalidName for a name of the platform's own."""
    if name.startswith(BUILT_IN_PREFIX):
        raise InvalidName(f"names that begin with {BUILT_IN_PREFIX} are the platform's own; choose another than {name!r}")


def _take(intake: Intake, file: BinaryIO, piece: bytes) -> None:
    intake.feed(piece)
    file.write(piece)


def _put(vault: Vault, file: BinaryIO) -> Stored:
    file.seek(0)
    return vault.put_stream(file)


def _same_kind(parents: list[Dataset]) -> DatasetKind:
    kinds = {parent.kind for parent in parents}
    if len(kinds) > 1:
        given = ", ".join(f"{parent.ref} ({parent.kind})" for parent in parents)
        raise InvalidInput(f"a dataset is derived from datasets of one kind, not from {given}")
    return parents[0].kind


def _derive(vault: Vault, sources: list[Source], recipe: DatasetRecipe, kind: DatasetKind) -> tuple[Stored, DatasetStatistics]:
    intake = Intake("", kind)
    with SpooledTemporaryFile(max_size=MAX_MEMORY_BYTES) as spool:
        file = cast(BinaryIO, spool)
        derive(sources, recipe, file)
        file.seek(0)
        while piece := file.read(READ_BYTES):
            intake.feed(piece)
        _, statistics = intake.finish()
        return _put(vault, file), statistics


async def _record(database: Database, caller: Identity, name: str, stored: Stored, draft: DatasetDraft) -> tuple[Dataset, bool]:
    async with database.begin() as uow:
        dataset, is_new = await uow.datasets.add(caller.project_id, name, stored, draft)
        for parent in (draft.derivation or {}).get("parents", []):
            # They may have been deleted while it was made of their bytes.
            await uow.datasets.hold(parent["id"])
        if is_new:
            data = {"ref": dataset.ref, "kind": dataset.kind, "sha256": dataset.sha256, "size_bytes": dataset.size_bytes}
            if draft.derivation is not None:
                data["parents"] = [parent["ref"] for parent in draft.derivation["parents"]]
            await uow.audit.record(caller, "dataset.add", "dataset", dataset.id, data)
    return dataset, is_new


def _lost(dataset: Dataset) -> DigestMismatch:
    return DigestMismatch(f"the vault has lost {dataset.sha256} ({dataset.ref}); restore it from a copy of the bucket")
