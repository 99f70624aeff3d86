"""The way to a transaction, keys, and what happens when the database is away."""

from __future__ import annotations

import asyncio

import pytest

from factories.store import Platform, import_spec, opened
from quantry_core.errors import InvalidName, NotFound, Unavailable
from quantry_core.keys import Identity, Role, hash_key
from quantry_store.database import Database


async def test_block_that_raises_leaves_nothing(platform: Platform) -> None:
    async def broken() -> None:
        async with platform.database.begin() as uow:
            await uow.models.get_or_create(platform.project_id, "half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await broken()
    assert await platform.sql("select count(*) from models") == [(0,)]


async def test_ping(platform: Platform) -> None:
    await platform.database.ping()


@pytest.mark.parametrize("url", ["postgresql+psycopg://nobody@/quantry?host=/nonexistent", "postgresql+psycopg://x@127.0.0.1:1/x"])
async def test_away_is_unavailable(url: str) -> None:
    async with opened(url) as database:
        with pytest.raises(Unavailable, match="the database did not answer"):
            await database.ping()


async def test_connection_that_is_lost_in_a_transaction_is_unavailable_and_the_next_works(platform: Platform) -> None:
    async def cut_off() -> None:
        async with platform.database.begin() as uow:
            await uow.models.get_or_create(platform.project_id, "half")
            await platform.sql(
                "select pg_terminate_backend(pid) from pg_stat_activity"
                " where datname = current_database() and pid <> pg_backend_pid() and state = 'idle in transaction'"
            )
            await uow.models.list(platform.project_id)

    with pytest.raises(Unavailable):
        await cut_off()
    await platform.database.ping()
    assert await platform.sql("select count(*) from models") == [(0,)]


async def test_deadlock_is_unavailable_for_one_and_nothing_for_the_other(platform: Platform) -> None:
    first, second = await platform.submit(import_spec()), await platform.submit(import_spec())
    both_hold_one = asyncio.Barrier(2)

    async def cross(one: str, other: str) -> None:
        async with platform.database.begin() as uow:
            await uow.jobs.lock(platform.project_id, one)
            await both_hold_one.wait()
            await uow.jobs.lock(platform.project_id, other)

    ends = await asyncio.gather(cross(first.id, second.id), cross(second.id, first.id), return_exceptions=True)
    assert sorted(type(end).__name__ for end in ends) == ["NoneType", "Unavailable"]


async def test_times_are_utc_and_own_options_are_kept(platform: Platform) -> None:
    job = await platform.submit(import_spec())
    assert job.created_at.utcoffset() is not None
    assert str(job.created_at.tzinfo) == "UTC"
    database = Database(platform.url + "&options=-c%20search_path%3Dnowhere")
    with pytest.raises(Exception, match="route_revision"):
        await database.ping()
    await database.close()


async def test_keys_are_made_identified_and_revoked(platform: Platform) -> None:
    revision = await platform.revision()
    async with platform.database.begin() as uow:
        key, secret = await uow.keys.create(platform.project_id, "laptop", Role.OPERATOR, who=platform.admin)
    assert secret.startswith(key.prefix)
    assert await platform.sql("select count(*) from api_keys where to_jsonb(api_keys)::text like %s", f"%{secret}%") == [(0,)]
    async with platform.database.begin() as uow:
        expected = Identity(key_id=key.id, project_id=platform.project_id, role=Role.OPERATOR)
        known = await uow.keys.identify(hash_key(secret))
        assert known is not None
        assert (known.identity, known.is_expired, known.is_use_noted) == (expected, False, False)
        assert await uow.keys.identify(hash_key("qtr_other")) is None
        assert {item.key_id: item.key_hash for item in await uow.keys.snapshot()}[key.id] == hash_key(secret)
        assert (await uow.keys.list(platform.project_id)).data[0] == key
    for _ in range(2):
        async with platform.database.begin() as uow:
            revoked = await uow.keys.revoke(platform.project_id, key.id, who=platform.admin)
        assert revoked.revoked_at is not None
    async with platform.database.begin() as uow:
        assert await uow.keys.identify(hash_key(secret)) is None
        assert key.id not in {item.key_id for item in (await uow.routes.snapshot()).keys}
        with pytest.raises(NotFound):
            await uow.keys.revoke(platform.project_id, "key_none", who=platform.admin)
    assert await platform.revision() == revision + 2, "gateways learn of a key made and of a key revoked, once each"
    assert (await platform.actions())[-2:] == ["key.create", "key.revoke"]


async def test_projects_are_made_once(platform: Platform) -> None:
    async def project() -> str:
        async with platform.database.begin() as uow:
            return await uow.projects.get_or_create("twice")

    assert len(set(await asyncio.gather(*(project() for _ in range(4))))) == 1
    async with platform.database.begin() as uow:
        with pytest.raises(InvalidName):
            await uow.projects.get_or_create("no/name")


async def test_act_of_nobody_names_its_project(platform: Platform) -> None:
    async with platform.database.begin() as uow:
        with pytest.raises(ValueError, match="project_id"):
            await uow.audit.record(None, "sweep", "job", "job_x")
