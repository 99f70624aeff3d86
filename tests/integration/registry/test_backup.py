"""An installation is backed up, destroyed, brought back and verified; what is not whole is refused by name."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import LiteralString, NamedTuple

import psycopg
import pytest

from factories.checkpoints import master_contents
from factories.registry import Registry
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_blobs.stores import Stored
from quantry_core.vault import VaultRunKind, VaultRunStatus
from quantry_core.versions import ManifestFile, Version, blob_key
from quantry_local.postgres import Postgres
from quantry_registry.backup.create import Source, create
from quantry_registry.backup.manifest import (
    DUMP,
    BackupError,
    Manifest,
    blob_file,
    file_of,
    load_manifest,
    manifests,
    read_blob_list,
)
from quantry_registry.backup.places import BucketPlace, FolderPlace, Place
from quantry_registry.backup.progress import Progress
from quantry_registry.backup.prune import prune
from quantry_registry.backup.restore import OVERTAKEN, Allowed, Installation, restore
from quantry_registry.backup.verify import verify
from quantry_registry.parts import make_parts
from quantry_registry.settings import RegistrySettings
from quantry_store.database import Database
from quantry_store.dumps import Snapshot, take_snapshot
from quantry_store.postgres_tools import DumpError, PostgresTools
from quantry_store.settings import StoreSettings

QUIET = Progress(io.StringIO())


class Empty(NamedTuple):
    """Where a backup is restored: a database without a table, and buckets that are not there yet."""

    installation: Installation
    store: MinioStore


@pytest.fixture
def tools(postgres: Postgres) -> PostgresTools:
    return PostgresTools.find(postgres.binaries)


@pytest.fixture
def empty(empty_database_url: str, blob_settings: BlobSettings) -> Iterator[Empty]:
    buckets = {"vault_bucket": f"{blob_settings.vault_bucket}-new", "staging_bucket": f"{blob_settings.staging_bucket}-new"}
    settings = blob_settings.model_copy(update=buckets)
    store = MinioStore(settings)
    parts = make_parts(RegistrySettings(registry_port=1), settings, store)
    yield Empty(Installation(StoreSettings(database_url=empty_database_url), parts), store)
    store.close()


def url_of(registry: Registry) -> str:
    return registry.database._engine.url.render_as_string(hide_password=False)


def back_up(registry: Registry, tools: PostgresTools, place: Place) -> Manifest:
    source = Source(url_of(registry), registry.parts.store, registry.parts.vault.bucket)
    return create(source, tools, place, QUIET, parallel=2)


async def bring_back(place: Place, manifest: Manifest, empty: Empty, tools: PostgresTools, **allowed: bool) -> None:
    # In a thread: a command has no loop around it.
    await asyncio.to_thread(restore, place, manifest, empty.installation, tools, QUIET, allowed=Allowed(**allowed), parallel=2)


def sql(url: str, statement: LiteralString, *parameters: object) -> list[tuple[object, ...]]:
    """Returns the rows of a statement, run past every guard."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        cursor = connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


async def files_of(registry: Registry, version: Version) -> list[ManifestFile]:
    async with registry.database.begin() as uow:
        return await uow.versions.files(version.id)


async def versions_in(url: str, version: Version) -> Version:
    database = Database(url)
    try:
        async with database.begin() as uow:
            return await uow.versions.get(version.project_id, version.id)
    finally:
        await database.close()


async def test_what_was_destroyed_comes_back_whole(registry: Registry, empty: Empty, tools: PostgresTools, tmp_path: Path) -> None:
    version = await registry.import_master(tmp_path, master_contents())
    files = await files_of(registry, version)
    async with registry.database.begin() as uow:
        run = await uow.vault_runs.add(version.project_id, VaultRunKind.COLLECT, {"dry_run": False, "age_s": 0}, who=None)
        await uow.blobs.add({"0" * 64: 7})  # bytes that nothing holds: they are not waited for
    place = FolderPlace(tmp_path / "backups")
    manifest = back_up(registry, tools, place)
    assert (manifest.num_blobs, manifest.num_left_out) == (len(files), 1)
    assert verify(place, manifest, QUIET, parallel=2) == []
    assert {path.stat().st_mode & 0o077 for path in (place.root, *place.root.rglob("*"))} == {0}, "a backup is for its owner alone"

    await bring_back(place, manifest, empty, tools)
    new = empty.installation
    restored = await versions_in(new.store.database_url, version)
    assert restored == version
    for file in files:
        (tmp_path / "fetched").unlink(missing_ok=True)
        new.parts.vault.fetch(file, tmp_path / "fetched")
    [(status, message)] = sql(new.store.database_url, "select status, message from vault_runs where id = %s", run.id)
    assert (status, message) == (VaultRunStatus.FAILED, OVERTAKEN), "a collection of the old installation is not played in the new one"
    [(num_verified,)] = sql(new.store.database_url, "select count(*) from blobs where verified_at is not null")
    assert num_verified == manifest.num_blobs
    assert sql(new.store.database_url, "select 1 from blobs where sha256 = %s", "0" * 64) == []

    with pytest.raises(BackupError, match="is in use, it holds 1 projects"):
        await bring_back(place, manifest, empty, tools)
    sql(new.store.database_url, "delete from vault_runs")
    await bring_back(place, manifest, empty, tools, replace=True)
    assert await versions_in(new.store.database_url, version) == version


async def test_the_next_backup_copies_what_is_new_and_a_broken_one_goes_on(
    registry: Registry, empty: Empty, tools: PostgresTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await registry.import_master(tmp_path, master_contents())
    # The backups lie in a bucket here, which the first one makes use of as it would of another server.
    registry.parts.store.ensure_bucket(f"{registry.parts.vault.bucket}-backups")
    place = BucketPlace(registry.parts.store, f"{registry.parts.vault.bucket}-backups", "of/quantry")
    taken: list[str] = []
    breaks_off_after = [1]
    take = BucketPlace.take

    def counted(self: BucketPlace, name: str, *arguments: object) -> None:
        if len(taken) == breaks_off_after[0]:
            raise KeyboardInterrupt
        taken.append(name)
        take(self, name, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(BucketPlace, "take", counted)
    source = Source(url_of(registry), registry.parts.store, registry.parts.vault.bucket)
    with pytest.raises(KeyboardInterrupt):
        create(source, tools, place, QUIET, parallel=1)
    assert list(manifests(place)) == [], "what was broken off is no backup"
    breaks_off_after[0] = -1
    manifest = create(source, tools, place, QUIET, parallel=1)
    first_blobs = {file.sha256 for file in await files_of(registry, first)}
    assert len(taken) == len(first_blobs) == len(set(taken)), "the blob that was copied before it was broken off is not copied again"

    taken.clear()
    second = await registry.import_master(tmp_path, master_contents() | {"README.md": b"new bytes"})
    later = create(source, tools, place, QUIET, parallel=1)
    [readme] = [file for file in await files_of(registry, second) if file.path == "README.md"]
    assert taken == [blob_file(readme.sha256)]
    assert load_manifest(place, None) == later
    assert verify(place, later, QUIET, parallel=1) == []

    pruned = prune(place, keep=1)
    assert list(pruned.backups) == [manifest.id]
    assert len(pruned.unfinished) == 1
    assert verify(place, later, QUIET, parallel=1) == []
    assert pruned.num_blobs == 0, "both versions are in the database still, and so in the later backup"
    await bring_back(place, later, empty, tools)
    assert await versions_in(empty.installation.store.database_url, second) == second


async def test_damage_is_named_and_nothing_of_it_is_restored(
    registry: Registry, empty: Empty, tools: PostgresTools, tmp_path: Path
) -> None:
    await registry.import_master(tmp_path, master_contents() | {"README.md": b"0123456789"})
    place = FolderPlace(tmp_path / "backups")
    manifest = back_up(registry, tools, place)
    whole, damaged = tmp_path / "whole", place.root
    shutil.copytree(damaged, whole)
    blobs = read_blob_list(place, manifest)
    missing, wrong, shorter = (blob_file(blob.sha256) for blob in blobs[:3])
    (damaged / missing).unlink()
    content = bytearray((damaged / wrong).read_bytes())
    content[0] ^= 1
    (damaged / wrong).write_bytes(content)
    (damaged / shorter).write_bytes((damaged / shorter).read_bytes()[:-1])
    problems = verify(place, manifest, QUIET, parallel=2)
    assert sorted(problems) == sorted(
        [
            f"{missing} is missing",
            f"{wrong} is damaged: its bytes are others",
            f"{shorter} is damaged: it has {blobs[2].size_bytes - 1} bytes instead of {blobs[2].size_bytes}",
        ]
    )
    with pytest.raises(BackupError, match="the backup is damaged, and the database was not touched") as caught:
        await bring_back(place, manifest, empty, tools)
    assert all(name in str(caught.value) for name in (missing, wrong, shorter))
    vault = empty.installation.parts.vault
    held = {sha256 for sha256, _ in vault.blobs()}
    assert held == {blob.sha256 for blob in blobs[3:]}, "a damaged blob is never given a key"
    assert sql(empty.installation.store.database_url, "select 1 from pg_tables where schemaname = 'public'") == []

    dump = whole / file_of(manifest.id, DUMP)
    content = bytearray(dump.read_bytes())
    content[-1] ^= 1
    dump.write_bytes(content)
    with pytest.raises(BackupError, match=r"the database cannot be restored: .*database\.dump has"):
        await bring_back(FolderPlace(whole), manifest, empty, tools)
    shutil.copy(damaged / file_of(manifest.id, DUMP), dump)
    # The restore that was refused twice is begun again with right files: what it had brought counts as its own.
    await bring_back(FolderPlace(whole), manifest, empty, tools)
    assert {sha256 for sha256, _ in vault.blobs()} == {blob.sha256 for blob in blobs}


async def test_what_the_vault_lacks_is_named_and_what_was_collected_is_not_missed(
    registry: Registry, tools: PostgresTools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = await registry.import_master(tmp_path, master_contents() | {"README.md": b"0123456789"})
    [readme] = [file for file in await files_of(registry, version) if file.path == "README.md"]
    place = FolderPlace(tmp_path / "backups")
    registry.parts.store.delete(registry.parts.vault.bucket, blob_key(readme.sha256))
    with pytest.raises(BackupError, match=rf"the vault cannot give 1 blobs: {readme.sha256} \(missing\)"):
        back_up(registry, tools, place)
    assert list(manifests(place)) == []

    module = sys.modules["quantry_registry.backup.create"]

    def sealed_anew(_url: str, _digests: object) -> set[str]:
        registry.parts.store.put_stream(registry.parts.vault.bucket, blob_key(readme.sha256), io.BytesIO(b"0123456789"))
        return set()

    with monkeypatch.context() as patch:
        patch.setattr(module, "gone_since", sealed_anew)
        assert readme.sha256 in {blob.sha256 for blob in read_blob_list(place, back_up(registry, tools, place))}
    registry.parts.store.delete(registry.parts.vault.bucket, blob_key(readme.sha256))
    place = FolderPlace(tmp_path / "more backups")

    moments: list[datetime] = []

    def snapshot_then_collected(url: str, *arguments: object) -> object:
        taken: Snapshot[Stored] = take_snapshot(url, *arguments)  # type: ignore[arg-type]
        if not moments:
            sql(url, "delete from version_files where path = 'README.md'")
            sql(url, "delete from blobs where sha256 = %s", readme.sha256)
        moments.append(taken.taken_at)
        return taken

    monkeypatch.setattr(module, "take_snapshot", snapshot_then_collected)
    manifest = back_up(registry, tools, place)
    assert len(moments) == 2
    assert manifest.taken_at == moments[1].astimezone(UTC), "the backup is of a moment after the collection"
    assert readme.sha256 not in {blob.sha256 for blob in read_blob_list(place, manifest)}


async def test_restores_that_cannot_be_are_refused(registry: Registry, empty: Empty, tools: PostgresTools, tmp_path: Path) -> None:
    place = FolderPlace(tmp_path / "backups")
    manifest = back_up(registry, tools, place)
    newer = manifest.model_copy(update={"revision": "9999_future"})
    with pytest.raises(BackupError, match="of a newer release: its database is at revision 9999_future"):
        await bring_back(place, newer, empty, tools)
    with pytest.raises(BackupError, match="the backup is of Postgres 99"):
        await bring_back(place, manifest.model_copy(update={"postgres_major": 99}), empty, tools)
    with pytest.raises(BackupError, match="written by pg_dump 99"):
        await bring_back(place, manifest.model_copy(update={"pg_dump_major": 99}), empty, tools)
    with (
        psycopg.connect(empty.installation.store.database_url.replace("+psycopg", "")),
        pytest.raises(BackupError, match="1 others are connected to the database"),
    ):
        await bring_back(place, manifest, empty, tools)
    vault = empty.installation.parts.vault.bucket
    empty.store.ensure_bucket(vault)
    empty.store.put_stream(vault, blob_key("1" * 64), io.BytesIO(b"strange"))
    with pytest.raises(BackupError, match=f"{vault}/{blob_key('1' * 64)} is not of this backup"):
        await bring_back(place, manifest, empty, tools)
    with pytest.raises(DumpError, match="holds no tables of Quantry's"):
        take_snapshot(empty.installation.store.database_url, tools, lambda stream: stream.read())
    lines = (place.root / file_of(manifest.id, "manifest.json")).read_text()
    (place.root / file_of(manifest.id, "manifest.json")).write_text(lines.replace('"num_blobs": ', '"num_blobs": 1'))
    with pytest.raises(BackupError, match="is not what its own digest says"):
        load_manifest(place, None)
    assert json.loads(lines)["num_blobs"] == manifest.num_blobs
