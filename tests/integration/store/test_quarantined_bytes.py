"""A version whose time in quarantine is over lets go of its bytes: what was found of it stays, and so does what anything else has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
import pytest

from factories.retention import counted, one_run, removed
from factories.store import Platform, blob
from quantry_core.errors import BytesReleased, Conflict, VersionProtected
from quantry_core.jobs import EvaluateSpec
from quantry_core.retention import RetentionKind
from quantry_core.versions import Version, VersionState
from quantry_store.repositories.blobs import lasting
from quantry_store.transactions.archiving import unarchive_version
from quantry_store.transactions.deletion import delete_version
from quantry_store.transactions.vault import record_damage, record_whole

KIND = RetentionKind.QUARANTINED_BYTES


@dataclass
class Made:
    """A master, a version of it that passed, and one that did not."""

    master: Version
    good: Version
    bad: Version


@contextmanager
def past_the_guards(platform: Platform) -> Iterator[psycopg.Connection]:
    with psycopg.connect(platform.url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        yield connection


def age(platform: Platform, days: float) -> None:
    """Makes every quarantine older."""
    with past_the_guards(platform) as connection:
        connection.execute("update versions set quarantined_at = quarantined_at - make_interval(secs => %s)", (days * 86400,))


async def make(platform: Platform) -> Made:
    master, dataset = await platform.master(), await platform.dataset()
    made = Made(master, await platform.quantized(master, dataset), await platform.quarantined(master, dataset))
    age(platform, 91)
    return made


async def show(platform: Platform, version: Version) -> Version:
    async with platform.database.begin() as uow:
        return await uow.versions.get(platform.project_id, version.id)


async def kept(platform: Platform) -> set[str]:
    """Returns the digests that something holds."""
    return {sha256 for sha256, _ in await platform.sql(str(lasting().compile(compile_kwargs={"literal_binds": True})))}


async def test_bytes_go_and_row_manifest_lineage_and_evidence_stay(platform: Platform) -> None:
    made = await make(platform)
    async with platform.database.begin() as uow:
        before = await uow.versions.detail(platform.project_id, made.bad.id)
    dry = await one_run(platform.database, platform.project_id, dry_run=True)
    run = await one_run(platform.database, platform.project_id)
    async with platform.database.begin() as uow:
        after = await uow.versions.detail(platform.project_id, made.bad.id)
    assert counted(run) == counted(dry) == {"quarantined-bytes": 1}
    shared = {file.sha256 for file in before.files} & await kept(platform)
    freed = sum(file.size_bytes for file in before.files if file.sha256 not in shared)
    assert run.size_bytes == dry.size_bytes == freed > 0
    assert after.bytes_released_at is not None
    assert after.model_copy(update={"bytes_released_at": None}) == before
    assert before.evidence
    entry = await platform.sql("select noun_id, data->>'size_bytes' from audit_log where action = 'version.release_bytes'")
    assert entry == [(made.bad.id, str(freed))]
    assert counted(await one_run(platform.database, platform.project_id)) == {}, "once"


async def test_what_others_have_of_it_is_untouched(platform: Platform) -> None:
    made = await make(platform)
    async with platform.database.begin() as uow:
        good, master = [await uow.versions.files(version.id) for version in (made.good, made.master)]
    assert await removed(platform.database, KIND, 90) == 1
    assert {file.sha256 for file in [*good, *master]} <= await kept(platform)
    async with platform.database.begin() as uow:
        # What is collected now is what nobody but the released version had.
        garbage = {
            one.sha256 for one in await uow.blobs.held_by_nothing([row[0] for row in await platform.sql("select sha256 from blobs")])
        }
        released = {file.sha256 for file in await uow.versions.files(made.bad.id)}
        assert garbage <= released
        assert not garbage & {file.sha256 for file in [*good, *master]}
        assert await uow.versions.kept_files(made.bad.id) == []
        assert await uow.versions.kept_files(made.good.id) == good


async def test_nothing_is_made_of_a_version_without_bytes(platform: Platform) -> None:
    made = await make(platform)
    await removed(platform.database, KIND, 90)
    with pytest.raises(BytesReleased, match=r"given up on .* its recipe makes it again"):
        await platform.submit(EvaluateSpec(version=made.bad.id, corpora=["tales"]))
    async with platform.database.begin() as uow:
        path = (await uow.versions.files(made.bad.id))[0].path
        with pytest.raises(BytesReleased):
            await uow.versions.file(platform.project_id, made.bad.id, path)
        with pytest.raises(Conflict):
            await unarchive_version(uow, made.bad.id, who=platform.admin)
    # The same bytes made again are a version of their own; the old one stays what it is.
    again = await platform.quantized(made.master, await platform.dataset("other", "other words"), content="broken")
    async with platform.database.begin() as uow:
        assert await uow.versions.kept_files(again.id) == await uow.versions.files(made.bad.id)
    assert (await show(platform, made.bad)).bytes_released_at is not None


async def test_what_is_young_deleted_used_or_built_upon_keeps_its_bytes(platform: Platform) -> None:
    made = await make(platform)
    assert await removed(platform.database, KIND, 92) == 0, "its time is not over"
    # An unfinished job measures it.
    job = await platform.submit(EvaluateSpec(version=made.bad.id, corpora=["tales"]))
    assert await removed(platform.database, KIND, 90) == 0
    await platform.sql("update jobs set status = 'cancelled', finished_at = now() where id = %s", job.id)
    async with platform.database.begin() as uow:
        await delete_version(uow, made.bad.id, who=platform.admin)
    assert await removed(platform.database, KIND, 90) == 0, "it can be restored"
    await platform.sql("update versions set deleted_at = null where id = %s", made.bad.id)
    # A master never, and not what a release has, which may be asked for again.
    await platform.rollout(made.good)
    with past_the_guards(platform) as connection:
        connection.execute("update versions set state = 'quarantined', quarantined_at = now() - interval '99 days'")
    assert await removed(platform.database, KIND, 90) == 1
    assert (await show(platform, made.master)).bytes_released_at is None
    assert (await show(platform, made.good)).bytes_released_at is None


async def test_time_counts_from_when_it_came_into_quarantine(platform: Platform) -> None:
    """A verification quarantines a version long after it was made, and takes it back where its bytes are right again."""
    good = await platform.quantized(await platform.master(), await platform.dataset())
    with past_the_guards(platform) as connection:
        connection.execute("update versions set created_at = now() - interval '400 days'")
    digest = blob("quantized").sha256
    async with platform.database.begin() as uow:
        await record_damage(uow, digest, "missing", "vrn_1")
    assert (await show(platform, good)).state is VersionState.QUARANTINED
    assert await removed(platform.database, KIND, 90) == 0
    async with platform.database.begin() as uow:
        assert [version.id for version in await record_whole(uow, [digest], "vrn_2")] == [good.id]
    assert await platform.sql("select count(*) from versions where quarantined_at is not null") == [(0,)]
    async with platform.database.begin() as uow:
        await record_damage(uow, digest, "missing", "vrn_3")
    age(platform, 91)
    assert await removed(platform.database, KIND, 90) == 1
    async with platform.database.begin() as uow:
        assert await record_whole(uow, [digest], "vrn_4") == [], "bytes that came back are not this version's any more"
    assert (await show(platform, good)).state is VersionState.QUARANTINED


async def test_the_database_refuses_what_the_sweep_would_not_do(platform: Platform) -> None:
    made = await make(platform)
    release = "update versions set bytes_released_at = now() where id = %s"
    for version, why in ((made.master, "it is a master"), (made.good, "it is not quarantined")):
        with pytest.raises(psycopg.DatabaseError, match=why):
            await platform.sql(release, version.id)
    with pytest.raises(psycopg.DatabaseError, match="cannot be changed"):
        await platform.sql("update version_files set released_at = now() where version_id = %s", made.bad.id)
    job = await platform.submit(EvaluateSpec(version=made.bad.id, corpora=["tales"]))
    with pytest.raises(psycopg.DatabaseError, match="an unfinished job uses it"):
        await platform.sql(release, made.bad.id)
    await platform.sql("update jobs set status = 'cancelled', finished_at = now() where id = %s", job.id)
    await removed(platform.database, KIND, 90)
    for statement, why in (
        ("update versions set bytes_released_at = null where id = %s", "its bytes go now, and once"),
        ("update versions set state = 'ready' where id = %s", "its bytes are gone"),
        ("update version_files set released_at = null where version_id = %s", "cannot be changed"),
        ("update version_files set size_bytes = 1 where version_id = %s", "cannot be changed"),
    ):
        with pytest.raises(psycopg.DatabaseError, match=why):
            await platform.sql(statement, made.bad.id)
    async with platform.database.begin() as uow:
        with pytest.raises(VersionProtected, match="its bytes are gone"):
            await uow.deletions.mark_state(made.bad.id, VersionState.READY)


async def test_a_version_that_somebody_begins_to_use_is_left_for_later(platform: Platform) -> None:
    made = await make(platform)
    async with platform.database.begin() as user:
        await user.versions.hold(await show(platform, made.bad))
        assert await removed(platform.database, KIND, 90) == 0
    assert await removed(platform.database, KIND, 90) == 1
