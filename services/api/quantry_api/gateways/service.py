"""Encrypts captured prompts before anything is written."""

from __future__ import annotations

import asyncio

import structlog

from quantry_core.captures import CapturedPrompt, CaptureReport
from quantry_store.capture_cipher import KEYS_VARIABLE, CaptureCipher
from quantry_store.database import Database
from quantry_store.repositories.captures import EncryptedPrompt
from quantry_store.transactions import record_captures

_log = structlog.get_logger(__name__)


async def keep_prompts(database: Database, cipher: CaptureCipher | None, report: CaptureReport) -> int:
    """Returns how many prompts are kept that were not before. Without a key there is none: what is not encrypted is not stored."""
    if cipher is None:
        _log.warning("captures.dropped", num_prompts=len(report.prompts), detail=f"{KEYS_VARIABLE} is not set")
        return 0
    prompts = await asyncio.to_thread(_encrypted, cipher, report.prompts)
    async with database.begin() as uow:
        return await record_captures(uow, prompts)


def _encrypted(cipher: CaptureCipher, prompts: list[CapturedPrompt]) -> list[EncryptedPrompt]:
    return [
        EncryptedPrompt(
            id=prompt.id,
            deployment_id=prompt.deployment_id,
            release_id=prompt.release_id,
            path=prompt.path,
            ciphertext=cipher.encrypt(prompt.body),
            captured_at=prompt.captured_at,
        )
        for prompt in prompts
    ]
