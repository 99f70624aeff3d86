"""The triggers that keep versions as they are, met by SQL by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest
from psycopg.sql import SQL, Composed, Identifier

from factories.store import Platform, blob, import_spec
from quantry_core.errors import VersionProtected
from quantry_core.jobs import EvaluateSpec
from quantry_core.versions import Version
from quantry_store.failures import PROTECTED_SQLSTATE
from quantry_store.transactions import delete_version, restore_version


async def refused(platform: Platform, statement: str | Composed, *parameters: object, by: str = PROTECTED_SQLSTATE) -> str:
    """Returns the trigger's message; fails if the statement was not refused by it."""
    with pytest.raises(psycopg.Error) as caught:
        await platform.sql(statement, *parameters)
    assert caught.value.diag.sqlstate == by
    return caught.value.diag.message_primary or ""


@contextmanager
def _no_triggers(platform: Platform) -> Iterator[psycopg.Connection]:
    """A connection that the guards do not see: the only way to make a deletion older than it is."""
    with psycopg.connect(platform.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        yield connection


def age(platform: Platform, version_id: str, days: float) -> None:
    """Makes a version deleted for so many days already."""
    with _no_triggers(platform) as connection:
        connection.execute("update versions set deleted_at = now() - make_interval(secs => %s) where id = %s", (days * 86400, version_id))


async def test_a_master_leaves_only_a_week_after_it_was_deleted(platform: Platform) -> None:
    master = await platform.master()
    remove = "delete from versions where id = %s"
    assert "not deleted in the way that can be taken back" in await refused(platform, remove, master.id)
    await platform.sql("update versions set deleted_at = now() where id = %s", master.id)
    assert "a master, deleted less than 7 days ago" in await refused(platform, remove, master.id)
    age(platform, master.id, 6.99)
    assert "a master, deleted less than 7 days ago" in await refused(platform, remove, master.id)
    assert await platform.sql("select count(*) from version_files") == [(2,)]
    age(platform, master.id, 7.01)
    await platform.sql(remove, master.id)
    assert await platform.sql("select count(*) from version_files") == [(0,)]


async def test_a_master_with_descendants_stays_however_long_ago_they_were_deleted(platform: Platform) -> None:
    master = await platform.master()
    quantized = await platform.quantized(master, await platform.dataset())
    delete = "update versions set deleted_at = now() where id = %s"
    assert "other versions were made from it" in await refused(platform, delete, master.id)
    await platform.sql(delete, quantized.id)
    await platform.sql(delete, master.id)
    age(platform, master.id, 400)
    assert "other versions were made from it" in await refused(platform, "delete from versions where id = %s", master.id)
    # The child comes back only after what it was made from.
    restore = "update versions set deleted_at = null where id = %s"
    assert "restore that first" in await refused(platform, restore, quantized.id)
    await platform.sql(restore, master.id)
    await platform.sql(restore, quantized.id)
    assert await platform.sql("select count(*) from versions where deleted_at is null") == [(2,)]


async def test_a_deletion_is_of_now_and_stays_as_it_is(platform: Platform) -> None:
    master = await platform.master()
    assert "deleted now, or not at all" in await refused(
        platform, "update versions set deleted_at = now() - interval '30 days' where id = %s", master.id
    )
    await platform.sql("update versions set deleted_at = now() where id = %s", master.id)
    assert "deleted now, or not at all" in await refused(platform, "update versions set deleted_at = now() where id = %s", master.id)


async def test_what_is_in_use_is_not_deleted(platform: Platform) -> None:
    delete = "update versions set deleted_at = now() where id = %s"
    master = await platform.master()
    aliased = await platform.quantized(master, await platform.dataset())
    await platform.sql("insert into aliases values (%s, 'production', %s, %s, now())", aliased.model_id, platform.project_id, aliased.id)
    assert "an alias points at it" in await refused(platform, delete, aliased.id)
    await platform.sql("delete from aliases")
    job = await platform.submit(EvaluateSpec(version=aliased.id, corpora=[(await platform.dataset("other", "text")).id]))
    assert "an unfinished job uses it" in await refused(platform, delete, aliased.id)
    await platform.sql("update jobs set status = 'cancelled' where id = %s", job.id)
    await platform.sql(delete, aliased.id)


async def test_nothing_new_refers_to_what_is_deleted(platform: Platform) -> None:
    master = await platform.master()
    await platform.sql("update versions set deleted_at = now() where id = %s", master.id)
    alias = "insert into aliases values (%s, 'production', %s, %s, now())"
    assert "restore it first" in await refused(platform, alias, master.model_id, platform.project_id, master.id)
    edge = "insert into lineage_edges (child_version_id, position, project_id, role, parent_version_id) values (%s, 0, %s, 'base', %s)"
    assert "restore it first" in await refused(platform, edge, master.id, platform.project_id, master.id)


async def test_a_deletion_waits_for_a_child_that_is_being_written(platform: Platform) -> None:
    master = await platform.master()
    other = await platform.master("other", "another")
    url = platform.url.replace("+psycopg", "")
    async with await psycopg.AsyncConnection.connect(url) as writer:
        # The child's row is another master's, copied: what matters is its edge, not yet committed.
        await writer.execute(
            "insert into versions select (jsonb_populate_record(versions, jsonb_build_object('id', 'ver_child', 'number', 99,"
            " 'job_id', %s::text, 'created_at', now()))).* from versions where id = %s",
            ((await platform.submit(import_spec("third"))).id, other.id),
        )
        await writer.execute(
            "insert into lineage_edges (child_version_id, position, project_id, role, parent_version_id)"
            " values ('ver_child', 0, %s, 'base', %s)",
            (platform.project_id, master.id),
        )
        deleting = asyncio.create_task(refused(platform, "update versions set deleted_at = now() where id = %s", master.id))
        await asyncio.sleep(0.3)
        assert not deleting.done()
    assert "other versions were made from it" in await deleting


@pytest.mark.parametrize("first", ["restore", "delete"])
async def test_a_child_comes_back_while_its_parent_is_being_deleted(platform: Platform, first: str) -> None:
    master = await platform.master()
    quantized = await platform.quantized(master, await platform.dataset())
    delete = "update versions set deleted_at = now() where id = %s"
    restore = "update versions set deleted_at = null where id = %s"
    await platform.sql(delete, quantized.id)
    moves = [(restore, quantized.id, "restore that first"), (delete, master.id, "other versions were made from it")]
    (one, one_id, _), (other, other_id, words) = moves if first == "restore" else moves[::-1]
    async with await psycopg.AsyncConnection.connect(platform.url.replace("+psycopg", "")) as connection:
        await connection.execute(one, (one_id,))
        waiting = asyncio.create_task(refused(platform, other, other_id))
        await asyncio.sleep(0.3)
        assert not waiting.done()
    assert words in await waiting


async def test_restored_and_deleted_at_once_no_child_is_without_its_parent(platform: Platform) -> None:
    master = await platform.master()
    quantized = await platform.quantized(master, await platform.dataset())

    async def change(what: Callable[..., Awaitable[Version]], version: Version) -> None:
        async with platform.database.begin() as uow:
            await what(uow, version.id, who=platform.admin)

    for _ in range(8):
        await change(delete_version, quantized)
        done = await asyncio.gather(change(restore_version, quantized), change(delete_version, master), return_exceptions=True)
        [refusal] = [error for error in done if error is not None]
        assert isinstance(refusal, VersionProtected)
        if done[0] is not None:
            await change(restore_version, master)
            await change(restore_version, quantized)


async def test_master_cannot_be_changed(platform: Platform) -> None:
    master = await platform.master()
    before = await platform.sql("select to_jsonb(versions) from versions")
    changes = {
        "kind": "quantized",
        "state": "archived",
        "manifest_digest": "0" * 64,
        "number": "7",
        "recipe": '{"a": 1}',
        "dtype": "bfloat16",
        "attempt": "9",
        "created_at": "2020-01-01",
    }
    for column, value in changes.items():
        statement = SQL("update versions set {} = %s where id = %s").format(Identifier(column))
        assert "cannot be changed" in await refused(platform, statement, value, master.id)
    assert await platform.sql("select to_jsonb(versions) from versions") == before


async def test_only_the_state_of_other_versions_can_change(platform: Platform) -> None:
    quantized = await platform.quantized(await platform.master(), await platform.dataset())
    await platform.sql("update versions set state = 'archived' where id = %s", quantized.id)
    assert await platform.sql("select state from versions where id = %s", quantized.id) == [("archived",)]
    await refused(platform, "update versions set scheme = 'W8A16' where id = %s", quantized.id)
    await refused(platform, "update versions set state = 'ready', kind = 'merged' where id = %s", quantized.id)
    # The detour: make it another kind, then delete it.
    await refused(platform, "update versions set kind = 'quantized' where kind = 'master'")


async def test_version_with_descendants_cannot_be_deleted(platform: Platform) -> None:
    base = await platform.quantized(await platform.master(), await platform.dataset())
    job = await platform.submit(import_spec("other"))
    # No recipe of today makes a version from a quantized one, so the child is written by hand, in one transaction.
    async with await psycopg.AsyncConnection.connect(platform.url.replace("+psycopg", "")) as connection:
        await connection.execute(
            "insert into versions select (jsonb_populate_record(versions,"
            " jsonb_build_object('id', 'ver_child', 'number', 99, 'job_id', %s::text, 'created_at', now()))).*"
            " from versions where id = %s",
            (job.id, base.id),
        )
        await connection.execute(
            "insert into lineage_edges (child_version_id, position, project_id, role, parent_version_id)"
            " values ('ver_child', 0, %s, 'base', %s)",
            (platform.project_id, base.id),
        )
    assert "other versions were made from it" in await refused(platform, "update versions set deleted_at = now() where id = %s", base.id)
    for version_id in ("ver_child", base.id):
        await platform.sql("update versions set deleted_at = now() where id = %s", version_id)
    assert "other versions were made from it" in await refused(platform, "delete from versions where id = %s", base.id)
    await platform.sql("delete from versions where id = 'ver_child'")
    await platform.sql("delete from versions where id = %s", base.id)
    assert await platform.sql("select count(*) from versions") == [(1,)]


async def test_served_version_cannot_be_deleted(platform: Platform) -> None:
    quantized = await platform.quantized(await platform.master(), await platform.dataset())
    await platform.rollout(quantized)
    assert "a release serves it" in await refused(platform, "update versions set deleted_at = now() where id = %s", quantized.id)
    age(platform, quantized.id, 400)
    assert "a release serves it" in await refused(platform, "delete from versions where id = %s", quantized.id)


async def test_files_of_a_version_are_fixed(platform: Platform) -> None:
    quantized = await platform.quantized(await platform.master(), await platform.dataset())
    await platform.sql("insert into blobs (sha256, size_bytes) values (%s, 1)", blob("x").sha256)
    for version in (quantized.id, (await platform.sql("select id from versions where kind = 'master'"))[0][0]):
        await refused(platform, "update version_files set sha256 = %s where version_id = %s", blob("x").sha256, version)
        await refused(platform, "update version_files set path = 'other.json' where version_id = %s", version)
        await refused(platform, "delete from version_files where version_id = %s", version)
        row = (version, "added.json", platform.project_id, blob("x").sha256)
        await refused(platform, "insert into version_files values (%s, %s, %s, %s, 1)", *row)
    assert await platform.sql("select count(*) from version_files") == [(4,)]


async def test_edges_of_a_version_are_fixed(platform: Platform) -> None:
    quantized = await platform.quantized(await platform.master(), await platform.dataset())
    other = await platform.master("other")
    await refused(platform, "update lineage_edges set parent_version_id = %s where role = 'base'", other.id)
    await refused(platform, "delete from lineage_edges where child_version_id = %s", quantized.id)
    edge = (quantized.id, platform.project_id, other.id)
    added = "insert into lineage_edges (child_version_id, position, project_id, role, parent_version_id) values (%s, 9, %s, 'teacher', %s)"
    await refused(platform, added, *edge)
    assert await platform.sql("select count(*) from lineage_edges") == [(2,)]


async def test_tables_of_versions_are_never_emptied(platform: Platform) -> None:
    await platform.master()
    for table in ("versions", "version_files", "lineage_edges", "models", "jobs"):
        assert "never emptied" in await refused(platform, SQL("truncate {} cascade").format(Identifier(table)))
    # The audit log hangs on the projects too, and stands before.
    assert "never emptied" in await refused(platform, "truncate projects cascade", by="QT002")
    assert await platform.sql("select count(*) from versions") == [(1,)]


async def test_unused_version_leaves_with_its_files_and_edges(platform: Platform) -> None:
    quantized = await platform.quantized(await platform.master(), await platform.dataset())
    assert "was not deleted" in await refused(platform, "delete from versions where id = %s", quantized.id)
    await platform.sql("update versions set deleted_at = now() where id = %s", quantized.id)
    await platform.sql("delete from versions where id = %s", quantized.id)
    assert await platform.sql("select count(*) from versions") == [(1,)]
    assert await platform.sql("select count(*) from version_files") == [(2,)]
    assert await platform.sql("select count(*) from lineage_edges") == [(0,)]


async def test_what_a_version_stands_on_cannot_be_deleted(platform: Platform) -> None:
    await platform.quantized(await platform.master(), await platform.dataset())
    for table in ("blobs", "models", "projects", "jobs", "datasets"):
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            await platform.sql(SQL("delete from {}").format(Identifier(table)))
