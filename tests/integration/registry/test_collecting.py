"""A removal of an object never outlasts the transaction that keeps others from the digest; and the clock asks for real collections."""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
from typing import Any

import psycopg
import pytest
from structlog.typing import EventDict

from factories.registry import Registry
from quantry_blobs.errors import StoreUnavailable
from quantry_core.keys import Role
from quantry_core.vault import VaultRunStatus
from quantry_core.versions import blob_key
from quantry_registry.settings import RegistrySettings
from quantry_registry.vault.service import ask_when_due, play_next

CONTENT = b"nobody refers to this"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def sql(registry: Registry, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
    url = registry.database._engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(statement, parameters)
        return cursor.fetchall() if cursor.description else []


def is_there(registry: Registry) -> bool:
    return registry.parts.vault.contains(SHA256, len(CONTENT))


async def forgotten(registry: Registry) -> None:
    """Puts a blob there that nothing refers to, sealed long ago."""
    registry.parts.store.put_stream(registry.parts.vault.bucket, blob_key(SHA256), io.BytesIO(CONTENT))
    async with registry.database.begin() as uow:
        await uow.blobs.add({SHA256: len(CONTENT)})
    sql(registry, "update blobs set sealed_at = sealed_at - interval '2 days'")


async def ask(registry: Registry, *, dry_run: bool = False) -> str:
    async with registry.client(Role.ADMIN) as client:
        asked = await client.post("/api/v1/vault/collect", json={"dry_run": dry_run})
    assert asked.status_code == 202, asked.text
    return str(asked.json()["id"])


async def test_a_stopped_registry_ends_its_removal_before_its_transaction(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    await forgotten(registry)
    remove, is_inside, may_go_on = registry.parts.vault.remove, threading.Event(), threading.Event()

    def slowly(sha256: str, begin_by_s: float) -> bool:
        is_inside.set()
        assert may_go_on.wait(20)
        return remove(sha256, begin_by_s)

    monkeypatch.setattr(registry.parts.vault, "remove", slowly)
    await ask(registry)
    playing = asyncio.create_task(play_next(registry.database, registry.parts))
    assert await asyncio.to_thread(is_inside.wait, 20)
    playing.cancel()

    async def note() -> bool:
        async with registry.database.begin() as uow:
            await uow.blobs.add({SHA256: len(CONTENT)})
        return is_there(registry)

    noting = asyncio.create_task(note())
    await asyncio.sleep(0.5)
    # The run is cancelled, and still whoever would note the digest waits for the request that is under way.
    assert not noting.done()
    may_go_on.set()
    assert await noting is False
    with pytest.raises(asyncio.CancelledError):
        await playing


async def test_a_lost_transaction_is_looked_into_and_told(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, kept_logs: list[EventDict]
) -> None:
    await forgotten(registry)
    remove = registry.parts.vault.remove

    def lose_the_transaction(sha256: str, begin_by_s: float) -> bool:
        end = "select pg_terminate_backend(pid) from pg_stat_activity where state = 'idle in transaction' and datname = current_database()"
        sql(registry, end)
        sql(registry, "insert into blobs (sha256, size_bytes) values (%s, %s)", SHA256, len(CONTENT))
        return remove(sha256, begin_by_s)

    monkeypatch.setattr(registry.parts.vault, "remove", lose_the_transaction)
    run_id = await ask(registry)
    assert await play_next(registry.database, registry.parts) is not None
    assert sql(registry, "select status from vault_runs where id = %s", run_id) == [("failed",)]
    assert [line["sha256"] for line in kept_logs if line["event"].startswith("blob lost")] == [SHA256]


async def test_a_store_that_is_away_for_a_moment_costs_another_transaction(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    await forgotten(registry)
    delete_once, num_asked = registry.parts.store.delete_once, list[str]()

    def away_at_first(bucket: str, key: str) -> None:
        num_asked.append(key)
        if len(num_asked) == 1:
            raise StoreUnavailable("away")
        delete_once(bucket, key)

    monkeypatch.setattr(registry.parts.store, "delete_once", away_at_first)
    run_id = await ask(registry)
    assert await play_next(registry.database, registry.parts) is not None
    assert sql(registry, "select status from vault_runs where id = %s", run_id) == [("succeeded",)]
    assert (num_asked, is_there(registry)) == ([blob_key(SHA256)] * 2, False)


async def test_a_blob_whose_key_is_in_use_is_left_to_the_next_run(registry: Registry) -> None:
    await forgotten(registry)
    with registry.parts.vault._keys.hold(SHA256):
        await ask(registry)
        async with asyncio.timeout(20):
            assert await play_next(registry.database, registry.parts) is not None
    assert is_there(registry)
    assert sql(registry, "select count(*) from blobs") == [(0,)]


async def test_only_a_collection_that_removed_makes_the_next_one_wait(registry: Registry) -> None:
    daily = RegistrySettings(registry_port=1, collect_interval_s=86400)

    def asked_by_the_clock() -> int:
        [(number,)] = sql(registry, "select count(*) from vault_runs where created_by_key_id is null")
        return int(number)

    await ask(registry, dry_run=True)
    await ask_when_due(registry.database, daily)
    assert asked_by_the_clock() == 1
    while await play_next(registry.database, registry.parts) is not None:
        pass
    # One that removed, or was to, is behind it: whoever asked for it.
    await ask_when_due(registry.database, daily)
    assert asked_by_the_clock() == 1
    sql(registry, "update vault_runs set status = %s", VaultRunStatus.FAILED)
    await ask_when_due(registry.database, daily)
    assert asked_by_the_clock() == 1, "one that just failed is not asked for again at once"
    sql(registry, "update vault_runs set finished_at = finished_at - interval '1 hour'")
    await ask_when_due(registry.database, daily)
    assert asked_by_the_clock() == 2, "nor only after a whole interval"
