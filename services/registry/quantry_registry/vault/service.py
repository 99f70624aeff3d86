"""Takes requests for runs, and plays them: one at a time in each registry, each held by one registry alone."""

from __future__ import annotations

import asyncio
from typing import Any

import structlog

from quantry_core.errors import InvalidInput, QuantryError
from quantry_core.keys import Identity
from quantry_core.vault import CollectReport, CollectRequest, VaultRun, VaultRunKind, VaultRunStatus, VerifyRequest
from quantry_registry.parts import Parts
from quantry_registry.settings import RegistrySettings
from quantry_registry.vault.claims import HeldRun, RunLost
from quantry_registry.vault.collect import collect
from quantry_registry.vault.verify import verify, words_of
from quantry_store.database import Database

_log = structlog.get_logger(__name__)

AFTER_FAILURE_S = 900.0
"""How soon a collection that failed is asked for again by the clock, where its interval is longer."""


async def ask_verify(database: Database, who: Identity, request: VerifyRequest) -> VaultRun:
    """Returns the run that will verify what was asked for; raises UnknownModel, UnknownVersion or InvalidName."""
    async with database.begin() as uow:
        asked: dict[str, Any] = request.model_dump(mode="json")
        if request.version is not None:
            asked["version"] = (await uow.versions.resolve(who.project_id, request.version)).id
        run = await uow.vault_runs.add(who.project_id, VaultRunKind.VERIFY, asked, who=who)
        await uow.audit.record(who, "vault.verify", "vault_run", run.id, asked)
    return run


async def ask_collect(database: Database, settings: RegistrySettings, who: Identity, request: CollectRequest) -> VaultRun:
    """Returns the run that will collect; raises InvalidInput for an age below what the settings allow."""
    age_s = settings.collect_age_s if request.age_s is None else request.age_s
    if age_s < settings.collect_min_age_s:
        raise InvalidInput(f"what was sealed in the last {settings.collect_min_age_s:.0f} s may still be in use; give a longer age_s")
    asked = {"dry_run": request.dry_run, "age_s": age_s}
    async with database.begin() as uow:
        run = await uow.vault_runs.add(who.project_id, VaultRunKind.COLLECT, asked, who=who)
        await uow.audit.record(who, "vault.collect", "vault_run", run.id, asked)
    return run


async def ask_when_due(database: Database, settings: RegistrySettings) -> None:
    """Asks for a collection when the last one that removed is ``collect_interval_s`` ago; never where that is not set."""
    interval_s = settings.collect_interval_s
    if interval_s is None:
        return
    async with database.begin() as uow:
        project_id = await uow.vault_runs.hold_home()
        if project_id is None:
            return
        if await uow.vault_runs.has_collected(interval_s, failed_within_s=min(interval_s, AFTER_FAILURE_S)):
            return
        asked = {"dry_run": False, "age_s": settings.collect_age_s}
        await uow.vault_runs.add(project_id, VaultRunKind.COLLECT, asked, who=None)


async def play_next(database: Database, parts: Parts) -> VaultRun | None:
    """Plays the oldest run that nobody holds and returns it as it was claimed; None if there is none."""
    held = await HeldRun.claim(database, parts.settings.vault_claim_s)
    if held is None:
        return None
    run = held.run
    _log.info("vault run begins", run_id=run.id, kind=run.kind)
    try:
        await _play(database, parts, held)
    except RunLost:
        _log.warning("vault run dropped: another registry holds it", run_id=run.id)
    except QuantryError as error:
        _log.warning("vault run failed", run_id=run.id, error=error.detail)
        await held.finish(VaultRunStatus.FAILED, held.report, error.detail)
    return run


async def run_vault_runs(database: Database, parts: Parts) -> None:
    """Plays runs until cancelled. One that is broken off is taken up again when its claim has run out."""
    while True:
        try:
            await ask_when_due(database, parts.settings)
            while await play_next(database, parts) is not None:
                pass
        except QuantryError as error:
            _log.warning("no vault run could be played", error=error.detail)
        except Exception:  # whatever broke this one, the next must still come
            _log.exception("vault run crashed")
        await asyncio.sleep(parts.settings.vault_poll_s)


async def _play(database: Database, parts: Parts, held: HeldRun) -> None:
    match held.run.kind:
        case VaultRunKind.VERIFY:
            checked = await verify(database, parts, held)
            status = VaultRunStatus.FAILED if checked.num_damaged else VaultRunStatus.SUCCEEDED
            await held.finish(status, checked.model_dump(mode="json"), words_of(checked))
        case VaultRunKind.COLLECT:
            collected = await collect(database, parts, held)
            await held.finish(VaultRunStatus.SUCCEEDED, collected.model_dump(mode="json"), _words(collected))


def _words(report: CollectReport) -> str:
    verb = "would be freed" if report.dry_run else "freed"
    return f"{report.num_bytes} bytes {verb}: {report.num_blobs} blobs, {report.num_orphans} orphans, {report.num_versions} versions"
