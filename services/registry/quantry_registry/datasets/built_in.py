"""The platform's own datasets: shipped with the package, and put into every project under names that nobody else may use."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

import structlog

from quantry_blobs.vault import Vault
from quantry_core.datasets import BUILT_IN_PREFIX, DatasetKind, DatasetOrigin
from quantry_core.errors import QuantryError
from quantry_registry.datasets.intake import Intake
from quantry_registry.keeping import keep
from quantry_registry.parts import Parts
from quantry_store.database import Database
from quantry_store.repositories.datasets import DatasetDraft

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class BuiltIn:
    """One of them; its bytes lie beside this module."""

    name: str
    kind: DatasetKind
    file: str

    @cached_property
    def content(self) -> bytes:
        """Its bytes."""
        return files(__package__).joinpath("texts", self.file).read_bytes()

    @cached_property
    def sha256(self) -> str:
        """Their SHA-256 in hex."""
        return hashlib.sha256(self.content).hexdigest()

    def draft(self) -> DatasetDraft:
        """Returns what it is, checked and counted as every dataset is."""
        intake = Intake(self.name, self.kind)
        intake.feed(self.content)
        kind, statistics = intake.finish()
        return DatasetDraft(kind, DatasetOrigin.BUILT_IN, statistics)


BUILT_INS = (
    BuiltIn(f"{BUILT_IN_PREFIX}prose.calibration", DatasetKind.TEXT, "prose.calibration.txt"),
    BuiltIn(f"{BUILT_IN_PREFIX}prose.test", DatasetKind.TEXT, "prose.test.txt"),
    BuiltIn(f"{BUILT_IN_PREFIX}chat.calibration", DatasetKind.CHAT, "chat.calibration.jsonl"),
)


async def seed_built_ins(database: Database, vault: Vault, built_ins: Sequence[BuiltIn]) -> int:
    """Puts the built-in datasets into every project that lacks them; returns how many were added."""
    num_added = 0
    for built_in in built_ins:
        async with database.begin() as uow:
            lacking = await uow.datasets.projects_without(built_in.name, built_in.sha256)
        if not lacking:
            continue
        draft = built_in.draft()
        stored = await asyncio.to_thread(vault.put_stream, io.BytesIO(built_in.content))
        await keep(database, vault, stored)
        for project_id in lacking:
            async with database.begin() as uow:
                dataset, is_new = await uow.datasets.add(project_id, built_in.name, stored, draft)
                if is_new:
                    data = {"ref": dataset.ref, "kind": dataset.kind, "sha256": dataset.sha256, "size_bytes": dataset.size_bytes}
                    await uow.audit.record(None, "dataset.add", "dataset", dataset.id, data, project_id=project_id)
                    num_added += 1
    if num_added:
        _log.info("built-in datasets added", num_datasets=num_added)
    return num_added


async def run_seeding(database: Database, parts: Parts, built_ins: Sequence[BuiltIn]) -> None:
    """Seeds now and every ``registry_seed_interval_s`` until cancelled: a new project has them soon.

    Where nothing is to be done, a round is one query for each of them.
    """
    while True:
        try:
            await seed_built_ins(database, parts.vault, built_ins)
        except QuantryError as error:
            _log.warning("seeding failed", error=error.detail)
        except Exception:  # whatever broke this round, the next one must still come
            _log.exception("seeding crashed")
        await asyncio.sleep(parts.settings.registry_seed_interval_s)
