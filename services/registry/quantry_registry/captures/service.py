"""Makes a dataset of what a deployment has captured: opened, scrubbed, checked like every other dataset, and put in the vault."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

from quantry_blobs.stores import Stored
from quantry_blobs.vault import Vault
from quantry_core.datasets import CapturedFrom, Dataset, DatasetOrigin
from quantry_core.errors import Conflict
from quantry_core.keys import Identity
from quantry_core.rollouts import Deployment
from quantry_core.scrubbing import ScrubKind
from quantry_registry.captures.prompts import kind_of_path, rows_of
from quantry_registry.datasets.intake import Intake
from quantry_registry.datasets.service import MAX_MEMORY_BYTES, check_own
from quantry_registry.keeping import keep
from quantry_registry.parts import Parts
from quantry_store.capture_cipher import KEYS_VARIABLE, CaptureCipher
from quantry_store.database import Database
from quantry_store.repositories.captures import EncryptedPrompt
from quantry_store.repositories.datasets import DatasetDraft

PROMPTS_PER_LOOK = 200
"""Read, opened and scrubbed at once; each has at most 256 K characters."""


@dataclass
class _Taken:
    """What has become of the prompts so far."""

    intake: Intake
    file: BinaryIO
    size_bytes: int = 0
    num_prompts: int = 0
    num_left_out: int = 0
    num_unreadable: int = 0
    times: list[datetime] = field(default_factory=list)
    """Of the oldest and the newest prompt."""
    num_scrubbed: Counter[ScrubKind] = field(default_factory=Counter)


async def dataset_of_captures(database: Database, parts: Parts, caller: Identity, deployment_name: str, name: str) -> tuple[Dataset, bool]:
    """Returns the dataset that a deployment's prompts are now, scrubbed, and whether it is new under that name.

    Chats, or texts of completions: whichever there are more of; the others are left out and counted. It ends where it would be longer
    than a dataset may be. Raises UnknownDeployment, InvalidName; Conflict where nothing was captured, or nothing that can be opened;
    InvalidInput for less text than a dataset has.
    """
    check_own(name)
    cipher = parts.capture_cipher
    if cipher is None:
        raise Conflict(f"captured prompts are encrypted, and there is no key here: set {KEYS_VARIABLE} to the api's")
    async with database.begin() as uow:
        deployment = await uow.deployments.get(caller.project_id, deployment_name)
        num_by_path = await uow.captures.num_by_path(deployment)
    if not num_by_path:
        raise Conflict(f"deployment {deployment_name!r} has captured no prompt yet")
    path = max(sorted(num_by_path), key=lambda one: num_by_path[one])
    kind = kind_of_path(path)
    with SpooledTemporaryFile(max_size=MAX_MEMORY_BYTES) as spool:
        taken = _Taken(Intake("", kind), cast(BinaryIO, spool))
        taken.num_left_out = sum(num for other, num in num_by_path.items() if other != path)
        await _take_all(database, cipher, deployment, path, taken, max_bytes=parts.settings.max_dataset_bytes)
        if not taken.num_prompts:
            raise Conflict(_nothing(deployment_name, taken))
        # Dense with work for a processor, as a seal is.
        async with parts.seal_slots:
            _, statistics = taken.intake.finish()
            stored = await asyncio.to_thread(_put, parts.vault, taken.file)
    await keep(database, parts.vault, stored)
    captured = CapturedFrom(
        deployment=deployment_name,
        num_prompts=taken.num_prompts,
        num_left_out=taken.num_left_out,
        num_unreadable=taken.num_unreadable,
        oldest_at=taken.times[0],
        newest_at=taken.times[-1],
        num_scrubbed={str(found): num for found, num in sorted(taken.num_scrubbed.items())},
    )
    draft = DatasetDraft(kind, DatasetOrigin.CAPTURED, statistics.model_copy(update={"captured": captured}))
    async with database.begin() as uow:
        dataset, is_new = await uow.datasets.add(caller.project_id, name, stored, draft)
        if is_new:
            facts = {"ref": dataset.ref, "kind": dataset.kind, "sha256": dataset.sha256, **captured.model_dump(mode="json")}
            await uow.audit.record(caller, "dataset.add", "dataset", dataset.id, facts)
    return dataset, is_new


async def _take_all(database: Database, cipher: CaptureCipher, deployment: Deployment, path: str, taken: _Taken, *, max_bytes: int) -> None:
    last: EncryptedPrompt | None = None
    while True:
        # A transaction for each look: none spans the scrubbing.
        async with database.begin() as uow:
            prompts = await uow.captures.list(deployment, path, after=last, limit=PROMPTS_PER_LOOK)
        if not prompts or not await asyncio.to_thread(_take, cipher, prompts, taken, max_bytes):
            return
        last = prompts[-1]


def _take(cipher: CaptureCipher, prompts: Sequence[EncryptedPrompt], taken: _Taken, max_bytes: int) -> bool:
    """Adds these prompts; returns whether there is room for more."""
    for prompt in prompts:
        body = cipher.decrypt(prompt.ciphertext)
        if body is None:
            taken.num_unreadable += 1
            continue
        rows = rows_of(prompt.path, body)
        if not rows.lines:
            taken.num_left_out += 1
            continue
        size_bytes = sum(len(line) for line in rows.lines)
        if taken.size_bytes + size_bytes > max_bytes:
            return False
        for line in rows.lines:
            taken.intake.feed(line)
            taken.file.write(line)
        taken.size_bytes += size_bytes
        taken.num_prompts += 1
        taken.num_scrubbed.update(rows.num_scrubbed)
        taken.times = [*taken.times[:1], prompt.captured_at]
    return True


def _nothing(deployment: str, taken: _Taken) -> str:
    if taken.num_unreadable:
        return f"none of the {taken.num_unreadable} prompts of deployment {deployment!r} can be opened: {KEYS_VARIABLE} lacks their key"
    return f"none of the prompts that deployment {deployment!r} has captured is text: there is no row to make of them"


def _put(vault: Vault, file: BinaryIO) -> Stored:
    file.seek(0)
    return vault.put_stream(file)
