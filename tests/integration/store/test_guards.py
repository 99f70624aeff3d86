"""The triggers that keep versions as they are, met by SQL by hand."""

from __future__ import annotations

import psycopg
import pytest
from psycopg.sql import SQL, Composed, Identifier

from factories.store import Platform, blob, import_spec
from quantry_store.failures import PROTECTED_SQLSTATE


async def refused(platform: Platform, statement: str | Composed, *parameters: object) -> str:
    """Returns the trigger's message; fails if the statement was not refused by it."""
    with pytest.raises(psycopg.Error) as caught:
        await platform.sql(statement, *parameters)
    assert caught.value.diag.sqlstate == PROTECTED_SQLSTATE
    return caught.value.diag.message_primary or ""


async def test_master_cannot_be_deleted(platform: Platform) -> None:
    master = await platform.master()
    assert "it is a master" in await refused(platform, "delete from versions where id = %s", master.id)
    assert await platform.sql("select id from versions") == [(master.id,)]
    assert await platform.sql("select count(*) from version_files") == [(2,)]


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
    assert "other versions were made from it" in await refused(platform, "delete from versions where id = %s", base.id)
    await platform.sql("delete from versions where id = 'ver_child'")
    await platform.sql("delete from versions where id = %s", base.id)
    assert await platform.sql("select count(*) from versions") == [(1,)]


async def test_served_version_cannot_be_deleted(platform: Platform) -> None:
    quantized = await platform.quantized(await platform.master(), await platform.dataset())
    await platform.rollout(quantized)
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
    for table in ("versions", "version_files", "lineage_edges", "models", "jobs", "projects"):
        assert "never emptied" in await refused(platform, SQL("truncate {} cascade").format(Identifier(table)))
    assert await platform.sql("select count(*) from versions") == [(1,)]


async def test_unused_version_leaves_with_its_files_and_edges(platform: Platform) -> None:
    quantized = await platform.quantized(await platform.master(), await platform.dataset())
    await platform.sql("delete from versions where id = %s", quantized.id)
    assert await platform.sql("select count(*) from versions") == [(1,)]
    assert await platform.sql("select count(*) from version_files") == [(2,)]
    assert await platform.sql("select count(*) from lineage_edges") == [(0,)]


async def test_what_a_version_stands_on_cannot_be_deleted(platform: Platform) -> None:
    await platform.quantized(await platform.master(), await platform.dataset())
    for table in ("blobs", "models", "projects", "jobs", "datasets"):
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            await platform.sql(SQL("delete from {}").format(Identifier(table)))
