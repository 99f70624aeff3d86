"""The audit chain: what is changed, removed, put in or exchanged is found; only retention may cut it, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from factories.store import Platform, import_spec, make_platform, opened
from quantry_core.audit import GENESIS_HASH, AuditFilter, AuditVerification
from quantry_core.errors import NotFound
from quantry_core.keys import Role
from quantry_store import migrate
from quantry_store.settings import StoreSettings

NUM_ACTS = 12
Tamper = Callable[[psycopg.AsyncConnection], Awaitable[object]]


@pytest.fixture
async def platform(database_url: str) -> AsyncIterator[Platform]:
    async with opened(database_url) as database:
        made = await make_platform(database_url, database, "default")
        for number in range(NUM_ACTS):
            async with database.begin() as uow:
                await uow.audit.record(made.admin, "thing.touch", "thing", f"thing-{number}", {"number": number, "share": number / 7})
        yield made


async def verify(platform: Platform) -> AuditVerification:
    async with platform.database.begin() as uow:
        await uow.read_one_moment()
        return await uow.audit.verify(platform.project_id)


async def past_the_guards(platform: Platform, *statements: str) -> None:
    """Does as whoever owns the database can: the triggers are off."""
    async with await psycopg.AsyncConnection.connect(platform.url.replace("+psycopg", ""), autocommit=True) as connection:
        await connection.execute("set session_replication_role = replica")
        for statement in statements:
            await connection.execute(statement)


async def test_a_chain_that_nobody_touched_is_whole(platform: Platform) -> None:
    found = await verify(platform)
    assert (found.is_whole, found.broken_at, found.first_seq, found.num_entries) == (True, None, 1, found.last_seq)
    async with platform.database.begin() as uow:
        entries = (await uow.audit.list(platform.project_id, limit=100)).data
    assert entries[0].hash == found.last_hash
    assert entries[-1].previous_hash == GENESIS_HASH


@pytest.mark.parametrize(
    ("statements", "seq", "why"),
    [
        (["update audit_log set data = data || '{\"number\": 99}' where seq = 7"], 7, "content"),
        (["update audit_log set action = 'thing.leave' where seq = 7"], 7, "content"),
        (["update audit_log set key_id = 'key_other' where seq = 7"], 7, "content"),
        (["update audit_log set created_at = created_at + interval '1 microsecond' where seq = 7"], 7, "content"),
        (["delete from audit_log where seq = 7"], 7, "missing"),
        (["delete from audit_log where seq = (select max(seq) from audit_log)"], None, "missing"),
        (
            [
                "update audit_log set seq = 1000 where seq = 7",
                "update audit_log set seq = 7 where seq = 8",
                "update audit_log set seq = 8 where seq = 1000",
            ],
            7,
            "exchanged",
        ),
        (
            [
                "update audit_log set seq = seq + 1000 where seq >= 7",
                "insert into audit_log (id, project_id, seq, action, noun, noun_id, data, created_at, previous_hash, hash) "
                "select 'aud_put_in', project_id, 7, action, noun, noun_id, data, created_at, previous_hash, repeat('a', 64) "
                "from audit_log where seq = 1007",
                "update audit_log set seq = seq - 999 where seq > 1000",
                "update audit_chains set seq = seq + 1",
            ],
            7,
            "content",
        ),
        (["delete from audit_log where seq <= 6"], 1, "missing"),
        (
            [
                "insert into audit_anchors select project_id, seq, hash from audit_log where seq = 6",
                "delete from audit_log where seq <= 6",
            ],
            6,
            "no entry tells of that",
        ),
        (["update audit_chains set hash = repeat('a', 64)"], None, "noted to end with"),
        (
            ["update audit_chains set seq = 7, hash = (select hash from audit_log where seq = 7)"],
            8,
            "there are more",
        ),
    ],
)
async def test_what_was_tampered_with_is_found_where_it_was(platform: Platform, statements: list[str], seq: int | None, why: str) -> None:
    last_seq = (await verify(platform)).last_seq
    await past_the_guards(platform, *statements)
    found = await verify(platform)
    assert found.broken_at is not None
    assert not found.is_whole
    assert found.broken_at.seq == (last_seq if seq is None else seq)
    assert why in found.broken_at.why


@pytest.mark.parametrize(
    "statement",
    [
        "update audit_log set action = 'nothing'",
        "delete from audit_log where seq = 3",
        "truncate audit_log",
        "update audit_chains set seq = seq - 1",
        "delete from audit_chains",
        "truncate audit_chains",
    ],
)
async def test_the_database_itself_refuses_to_change_what_was_written(platform: Platform, statement: str) -> None:
    with pytest.raises(psycopg.Error) as refused:
        await platform.sql(statement)
    assert refused.value.diag.sqlstate == "QT002"
    assert (await verify(platform)).is_whole


async def test_acts_side_by_side_make_one_chain_without_a_gap(platform: Platform) -> None:
    async def act(number: int) -> None:
        async with platform.database.begin() as uow:
            await uow.audit.record(platform.admin, "thing.touch", "thing", f"side-{number}")
            if number % 2:
                # Takes the route revision too, which every key's change does.
                await uow.keys.create(platform.project_id, f"side-{number}", Role.VIEWER)

    before = (await verify(platform)).last_seq
    await asyncio.gather(*(act(number) for number in range(24)))
    after = await verify(platform)
    assert (after.is_whole, after.last_seq) == (True, before + 24 + 12)


async def test_what_is_taken_back_leaves_no_trace_and_no_gap(platform: Platform) -> None:
    before = await verify(platform)
    with suppress(ZeroDivisionError):
        async with platform.database.begin() as uow:
            await uow.audit.record(platform.admin, "thing.touch", "thing", "never")
            assert 1 // 0
    async with platform.database.begin() as uow:
        with suppress(NotFound):
            async with uow.savepoint():
                await uow.audit.record(platform.admin, "thing.touch", "thing", "never")
                await uow.keys.get(platform.project_id, "key_nobody")
    assert await verify(platform) == before


async def test_retention_cuts_the_beginning_and_the_rest_still_holds(platform: Platform) -> None:
    future = datetime.now(UTC) + timedelta(days=1)
    async with platform.database.begin() as uow:
        assert await uow.audit.cut(platform.project_id, datetime(2020, 1, 1, tzinfo=UTC), limit=100) == 0
        assert await uow.audit.cut(platform.project_id, future, limit=5) == 5
    first = await verify(platform)
    assert first.anchor is not None
    assert (first.is_whole, first.first_seq, first.anchor.seq) == (True, 6, 5)
    async with platform.database.begin() as uow:
        assert await uow.audit.hash_at(platform.project_id, 5) == first.anchor.hash
        assert await uow.audit.hash_at(platform.project_id, 4) is None
        assert await uow.audit.cut(platform.project_id, future, limit=100) > 0
    last = await verify(platform)
    assert last.anchor is not None
    assert (last.is_whole, last.anchor.seq) == (True, last.last_seq - 3), "the newest act stays, and what tells of the two cuts"
    async with platform.database.begin() as uow:
        told = (await uow.audit.list(platform.project_id, AuditFilter(action="audit.*"))).data
    assert [entry.data["seq"] for entry in told] == [last.anchor.seq, 5]


async def test_the_log_is_asked_by_who_what_which_and_when(platform: Platform) -> None:
    job = await platform.submit(import_spec())

    async def seqs(**which: object) -> list[int]:
        async with platform.database.begin() as uow:
            return [entry.seq for entry in (await uow.audit.list(platform.project_id, AuditFilter.model_validate(which), limit=100)).data]

    everything = await seqs()
    submitted = await seqs(action="job.submit")
    assert submitted == everything[:1] == await seqs(noun_id=job.id) == await seqs(action="job.*") == await seqs(noun="job")
    touched = await seqs(key_id=platform.admin.key_id, noun="thing")
    assert len(touched) == NUM_ACTS
    assert await seqs(noun="thing", noun_id="thing-3") == [touched[-4]]
    assert await seqs(until=datetime(2020, 1, 1, tzinfo=UTC)) == []
    assert await seqs(since=datetime(2020, 1, 1, tzinfo=UTC)) == everything
    # A percent sign is no pattern.
    assert await seqs(action="%.*") == []


async def test_what_was_there_before_the_chain_becomes_its_beginning(empty_database_url: str) -> None:
    settings = StoreSettings(database_url=empty_database_url)
    await asyncio.to_thread(migrate.upgrade, settings, "0005_rollouts")
    data = '{"share": 0.1, "whole": 2.0, "large": 1e22, "small": 1e-7, "text": "Zebr\\u00e4", "list": [1, null, true]}'
    async with await psycopg.AsyncConnection.connect(empty_database_url.replace("+psycopg", ""), autocommit=True) as connection:
        for project in ("prj_1", "prj_2"):
            await connection.execute("insert into projects (id, name, share) values (%s, %s, 1)", (project, project.replace("_", "-")))
            for number in range(3):
                await connection.execute(
                    "insert into audit_log (id, project_id, action, noun, noun_id, data) values (%s, %s, 'thing.touch', 'thing', 'x', %s)",
                    (f"aud_{project}_{number}", project, data),
                )
        key = (
            "insert into api_keys (id, project_id, name, role, prefix, key_hash) values ('key_1', 'prj_2', 'worker', 'worker', 'qtr_', 'x')"
        )
        await connection.execute(key)
    await asyncio.to_thread(migrate.upgrade, settings)
    async with opened(empty_database_url) as database:
        for project in ("prj_1", "prj_2"):
            async with database.begin() as uow:
                await uow.audit.record(None, "thing.touch", "thing", "after", project_id=project)
            async with database.begin() as uow:
                found = await uow.audit.verify(project)
                assert (found.is_whole, found.last_seq, (await uow.projects.get(project)).is_platform) == (True, 4, project == "prj_2")
