"""Brings a backup back: the blobs, then the database in one transaction, then a verification of every byte by the registry's own.

Until the transaction commits the installation stays empty, so a restore that was broken off is begun again as it was.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from quantry_blobs.errors import DigestMismatch, UnknownBlob
from quantry_blobs.stores import Stored
from quantry_core.vault import VaultRun, VaultRunKind, VaultRunStatus, VerifyReport
from quantry_core.versions import blob_key
from quantry_registry.backup.manifest import DUMP, BackupError, Manifest, blob_file, file_of, read_blob_list
from quantry_registry.backup.places import Place
from quantry_registry.backup.progress import Progress, each
from quantry_registry.parts import Parts
from quantry_registry.vault.claims import HeldRun
from quantry_registry.vault.verify import verify, words_of
from quantry_store import migrate
from quantry_store.database import Database
from quantry_store.dumps import Target, clear, keep_only, look_at
from quantry_store.postgres_tools import PostgresTools
from quantry_store.repositories.blobs import Blob
from quantry_store.settings import StoreSettings

OVERTAKEN = "the installation was restored from a backup while this run was open: ask for it again"


@dataclass(frozen=True)
class Installation:
    """What is restored into."""

    store: StoreSettings
    parts: Parts


@dataclass(frozen=True)
class Allowed:
    """What a restore may do that it refuses otherwise."""

    replace: bool = False
    """Take the place of an installation that is in use: its database is removed."""
    connected: bool = False
    """Go on though somebody is connected to the database."""


def restore(
    place: Place,
    manifest: Manifest,
    into: Installation,
    tools: PostgresTools,
    progress: Progress,
    *,
    allowed: Allowed,
    parallel: int,
) -> VerifyReport:
    """Returns what the verification found, which is that every blob is right.

    Raises BackupError where the installation is not empty, the backup is damaged, or it is not of a kind that this one can
    take; the message names what. DumpError where Postgres refuses.
    """
    store, parts = into.store, into.parts
    blobs = read_blob_list(place, manifest)
    target = look_at(store.database_url)
    _check_fits(manifest, target, store, tools)
    _check_empty(target, parts, blobs, allowed)
    asyncio.run(_make_buckets(parts))
    _bring_back(place, blobs, parts, progress, parallel=parallel)
    try:
        with place.local(file_of(manifest.id, DUMP), manifest.dump.stored) as dump:
            if target.has_tables:
                clear(store.database_url)
            tools.restore(store.database_url, dump)
    except (DigestMismatch, UnknownBlob) as error:
        raise BackupError(f"the database cannot be restored: {error.detail}") from error
    migrate.upgrade(store)
    num_forgotten = keep_only(store.database_url, [blob.sha256 for blob in blobs])
    progress.say(f"database: restored, as of {manifest.taken_at:%c %Z}; {num_forgotten} blobs that nothing lasting held were left out")
    return asyncio.run(_verify(store, parts, progress))


def _check_fits(manifest: Manifest, target: Target, store: StoreSettings, tools: PostgresTools) -> None:
    if not migrate.knows(store, manifest.revision):
        raise BackupError(
            f"the backup is of a newer release: its database is at revision {manifest.revision}, which this one does not know; "
            f"restore it with release {manifest.quantry} or newer"
        )
    if target.server_major < manifest.postgres_major:
        raise BackupError(f"the backup is of Postgres {manifest.postgres_major}, this server is {target.server_major}: take one as new")
    if tools.major < manifest.pg_dump_major:
        raise BackupError(
            f"the dump was written by pg_dump {manifest.pg_dump_major}, and {tools.pg_restore} is {tools.major}: take one as new"
        )


def _check_empty(target: Target, parts: Parts, blobs: list[Blob], allowed: Allowed) -> None:
    """Raises BackupError unless the installation is empty. What a restore that was broken off brought to the vault counts as empty."""
    if target.num_others and not allowed.connected:
        raise BackupError(f"{target.num_others} others are connected to the database: stop every service first (or --ignore-connections)")
    if allowed.replace:
        return
    if target.num_projects:
        raise BackupError(f"the database is in use, it holds {target.num_projects} projects: restore into an empty one (or --replace)")
    own = {blob.sha256 for blob in blobs}
    parts.store.ensure_bucket(parts.vault.bucket)
    strange = next((sha256 for sha256, _ in parts.vault.blobs() if sha256 not in own), None)
    if strange is not None:
        raise BackupError(f"{parts.vault.bucket}/{blob_key(strange)} is not of this backup: restore into an empty bucket (or --replace)")


async def _make_buckets(parts: Parts) -> None:
    await parts.ensure_buckets()
    await parts.protect_vault()


def _bring_back(place: Place, blobs: list[Blob], parts: Parts, progress: Progress, *, parallel: int) -> None:
    """Copies every blob that the vault lacks; raises BackupError naming those that the backup cannot give."""

    def give(blob: Blob) -> str | None:
        if parts.vault.contains(blob.sha256, blob.size_bytes):
            return None
        key, name, expected = blob_key(blob.sha256), blob_file(blob.sha256), Stored(blob.size_bytes, blob.sha256)
        try:
            place.give(name, parts.store, parts.vault.bucket, key, expected)
        except UnknownBlob:
            return f"{name} is missing"
        except DigestMismatch as error:
            return f"{name} is damaged: {error.detail}"
        if parts.vault.retention_s is not None:
            parts.store.retain(parts.vault.bucket, key, parts.vault.retention_s)
        return None

    given = each(blobs, give, "brought back", progress, parallel=parallel)
    problems = [words for words in given.values() if words is not None]
    if problems:
        raise BackupError(f"the backup is damaged, and the database was not touched: {'; '.join(sorted(problems))}")


async def _verify(store: StoreSettings, parts: Parts, progress: Progress) -> VerifyReport:
    """Returns what the registry's verification of the whole vault found; raises BackupError where a blob is not right."""
    database = Database(store.database_url)
    try:
        asked = await _ask(database)
        if asked is None:
            # Nobody ever bootstrapped what was backed up.
            return VerifyReport()
        held = await _claim(database, asked, parts.settings.vault_claim_s)
        progress.say("verifying every blob in the vault")
        report = await verify(database, parts, held)
        status = VaultRunStatus.FAILED if report.num_damaged else VaultRunStatus.SUCCEEDED
        await held.finish(status, report.model_dump(mode="json"), words_of(report))
    finally:
        await database.close()
    if report.num_damaged:
        raise BackupError(f"restored, but not whole: {words_of(report)}; vault run {asked.id} names them")
    progress.say(f"verified: {words_of(report)} (vault run {asked.id})")
    return report


async def _ask(database: Database) -> VaultRun | None:
    async with database.begin() as uow:
        project_id = await uow.vault_runs.hold_home()
        if project_id is None:
            return None
        return await uow.vault_runs.add(project_id, VaultRunKind.VERIFY, {}, who=None)


async def _claim(database: Database, asked: VaultRun, hold_s: float) -> HeldRun:
    """Returns the run, claimed. Runs that were open when the backup was made are closed: nobody waits for them here."""
    while (held := await HeldRun.claim(database, hold_s)) is not None:
        if held.run.id == asked.id:
            return held
        await held.finish(VaultRunStatus.FAILED, held.report, OVERTAKEN)
    raise BackupError(f"the vault run {asked.id} was taken by a registry that runs: stop it, and verify with `quantry vault verify --wait`")
