"""The conformance suite of PoolDriver: every test runs on every driver that it is about."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from factories.fake_engine import ASKED
from factories.kube_api import KubeApi, serving
from factories.pools import SERVED_NAME, KubernetesPool, PoolUnderTest, ProcessPool, StaticPool, until
from quantry_core.errors import Unavailable
from quantry_core.jobs import JobReason
from quantry_core.rollouts import Replica
from quantry_core.versions import VersionState
from quantry_deploy.drivers.protocol import StartOrder
from quantry_deploy.observations import PullState

EVERY = ["process", "kubernetes", "static"]
OWN = ["process", "kubernetes"]
"""Those that start engines."""


@pytest.fixture
async def pool(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[PoolUnderTest]:
    """A driver over nothing; every engine that it started, or that is looked at, ends with the test."""
    api = KubeApi()
    with serving(api) as url:
        match request.param:
            case "process":
                made: PoolUnderTest = ProcessPool(tmp_path)
            case "kubernetes":
                made = KubernetesPool(tmp_path, url, api)
            case _:
                made = StaticPool(tmp_path)
        yield made
        await made.close()


async def answers(replica: Replica) -> bool:
    """Tells whether somebody still listens where a replica of somebody else's is."""
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(f"{replica.url}/health")).status_code == 200


@pytest.mark.parametrize("pool", EVERY, indirect=True)
async def test_a_replica_is_pulled_started_proven_and_ended(pool: PoolUnderTest) -> None:
    version = pool.version()
    release = pool.release(version)
    assert await pool.pulled(version, release) is PullState.DONE
    replica = await pool.ready(version, release)
    seen = await pool.driver.probe(replica, SERVED_NAME)
    assert (seen.is_running, seen.answers, seen.is_proven, seen.doubt) == (True, True, True, "")
    await pool.driver.terminate(replica)
    await pool.driver.terminate(replica)
    await pool.until_seen(replica, lambda seen: not seen.is_running)
    await pool.driver.kill(replica)
    assert dict(await pool.driver.running()) == {}
    if not pool.starts_engines:
        assert await answers(replica)


@pytest.mark.parametrize("pool", EVERY, indirect=True)
async def test_starting_twice_is_starting_once(pool: PoolUnderTest) -> None:
    version = pool.version()
    release = pool.release(version)
    replica = await pool.ready(version, release)
    assert await pool.started_again(version, release, replica) == replica
    assert (await pool.driver.probe(replica, SERVED_NAME)).is_running
    assert len(await pool.driver.running()) == (1 if pool.starts_engines else 0)


@pytest.mark.parametrize("pool", EVERY, indirect=True)
async def test_what_was_never_started_does_not_run(pool: PoolUnderTest) -> None:
    version = pool.version()
    release = pool.release(version)
    replica = await pool.started(version, release)
    pulling = replica.model_copy(update={"id": "rep_other", "url": None, "pid": None, "pid_started_at": None, "ordinal": 3})
    assert not (await pool.driver.probe(pulling, SERVED_NAME)).is_running


@pytest.mark.parametrize("pool", EVERY, indirect=True)
async def test_the_replicas_of_a_release_are_each_on_their_own(pool: PoolUnderTest) -> None:
    version = pool.version()
    release = pool.release(version, num_replicas=2)
    first, second = [await pool.ready(version, release, ordinal) for ordinal in range(2)]
    assert first.url != second.url
    await pool.driver.terminate(second)
    await pool.until_seen(second, lambda seen: not seen.is_running)
    seen = await pool.driver.probe(first, SERVED_NAME)
    assert (seen.is_running, seen.is_proven) == (True, True)


@pytest.mark.parametrize("pool", EVERY, indirect=True)
@pytest.mark.parametrize(("behaviour", "answering"), [("never", False), ("impostor", True)])
async def test_what_is_not_the_engine_or_does_not_answer_is_never_proven(pool: PoolUnderTest, behaviour: str, answering: bool) -> None:
    version = pool.version(behaviour)
    replica = await pool.started(version, pool.release(version))
    wanted = "somebody-else" if answering else ""
    seen = await pool.until_seen(replica, lambda seen: seen.answers is answering and wanted in seen.doubt and seen.silent_s >= 0)
    assert (seen.is_running, seen.is_proven) == (True, False)
    if not answering:
        later = await pool.until_seen(replica, lambda later: later.silent_s > 0.3)
        assert not later.answers


@pytest.mark.parametrize("pool", EVERY, indirect=True)
async def test_another_driver_in_its_place_adopts_what_runs(pool: PoolUnderTest) -> None:
    version = pool.version()
    release = pool.release(version)
    replica = await pool.ready(version, release)
    pool.replace_driver()
    seen = await pool.until_seen(replica, lambda seen: seen.is_proven)
    assert seen.is_running
    assert await pool.pulled(version, release) is PullState.DONE
    assert await pool.started_again(version, release, replica) == replica
    await pool.driver.terminate(replica)
    await pool.until_seen(replica, lambda seen: not seen.is_running)


@pytest.mark.parametrize("pool", EVERY, indirect=True)
async def test_what_no_engine_could_serve_is_refused_before_anything_is_fetched(pool: PoolUnderTest) -> None:
    version = pool.version().model_copy(update={"state": VersionState.QUARANTINED})
    release = pool.release(version)
    assert await pool.pulled(version, release) is PullState.REFUSED
    refused = pool.driver.pull_status(version, release)
    assert (refused.reason, "only a ready version is served" in refused.message) == (JobReason.INVALID_INPUT, True)
    assert pool.shelf.num_fetched == 0


@pytest.mark.parametrize("pool", EVERY, indirect=True)
async def test_nobody_else_scales_a_release(pool: PoolUnderTest) -> None:
    assert await pool.driver.scaled_to(pool.release(pool.version())) is None


@pytest.mark.parametrize("pool", OWN, indirect=True)
async def test_an_engine_that_ends_is_told_with_its_last_lines(pool: PoolUnderTest) -> None:
    version = pool.version("crash")
    replica = await pool.started(version, pool.release(version))
    seen = await pool.until_seen(replica, lambda seen: not seen.is_running)
    assert seen.ending == "ended with exit status 3"
    assert "the weights do not fit this engine" in await pool.driver.log_tail(replica)
    await pool.driver.kill(replica)


@pytest.mark.parametrize("pool", OWN, indirect=True)
async def test_a_killed_replica_can_be_started_anew_and_must_prove_itself_anew(pool: PoolUnderTest) -> None:
    version = pool.version()
    release = pool.release(version)
    before = await pool.ready(version, release)
    await pool.driver.kill(before)
    failed = before.model_copy(update={"url": None, "pid": None, "pid_started_at": None})
    await pool.until_seen(failed, lambda seen: not seen.is_running)
    after = await pool.started_again(version, release, failed)
    await pool.until_seen(after, lambda seen: seen.is_proven)
    # Each of the two by a token of its own: the log goes on.
    assert (await pool.driver.log_tail(after)).count(ASKED) == 2
    assert set(await pool.driver.running()) == {after.id}


@pytest.mark.parametrize("pool", OWN, indirect=True)
async def test_an_engine_that_ignores_its_end_is_killed(pool: PoolUnderTest) -> None:
    version = pool.version("stubborn")
    replica = await pool.ready(version, pool.release(version))
    await pool.driver.terminate(replica)
    await asyncio.sleep(0.2)
    assert (await pool.driver.probe(replica, SERVED_NAME)).is_running
    await pool.driver.kill(replica)
    await pool.until_seen(replica, lambda seen: not seen.is_running)
    assert dict(await pool.driver.running()) == {}


@pytest.mark.parametrize("pool", OWN, indirect=True)
async def test_an_engine_that_nobody_knows_is_found_and_ended(pool: PoolUnderTest) -> None:
    version = pool.version()
    known = await pool.ready(version, pool.release(version))
    stray = await pool.ready(version, pool.release(version))
    pool.replace_driver()
    running = await pool.driver.running()
    assert set(running) == {known.id, stray.id}
    await pool.driver.kill_strays(stray.id, running[stray.id])

    async def is_gone() -> bool:
        return set(await pool.driver.running()) == {known.id}

    await until(is_gone)
    assert (await pool.driver.probe(known, SERVED_NAME)).is_running


@pytest.mark.parametrize("pool", OWN, indirect=True)
async def test_all_end_together(pool: PoolUnderTest) -> None:
    version = pool.version()
    release = pool.release(version, num_replicas=2)
    replicas = [await pool.ready(version, release, ordinal) for ordinal in range(2)]
    await pool.driver.stop_all(within_s=5.0)
    assert [(await pool.driver.probe(replica, SERVED_NAME)).is_running for replica in replicas] == [False, False]


@pytest.mark.parametrize("pool", OWN, indirect=True)
async def test_files_are_pulled_once_shared_and_kept_as_long_as_they_are_wanted(pool: PoolUnderTest) -> None:
    version, other = pool.version(), pool.version(weights="others")
    release = pool.release(version)
    # Before there is a replica: a prefetch.
    assert await pool.pulled(version, release) is PullState.DONE
    assert await pool.pulled(version, pool.release(version)) is PullState.DONE
    assert await pool.pulled(other, pool.release(other)) is PullState.DONE
    assert pool.shelf.num_fetched == 4
    await pool.driver.prune([version.manifest_digest])
    await pool.ready(version, release)
    folders = {path.name for path in (pool.settings.deploy_dir / "cache").iterdir()}
    assert folders == {version.manifest_digest}


@pytest.mark.parametrize("pool", OWN, indirect=True)
async def test_no_engine_starts_on_files_that_are_missing_or_damaged(pool: PoolUnderTest) -> None:
    version = pool.version()
    release = pool.release(version)
    replica = await pool.started(version, release)
    await pool.driver.kill(replica)
    weights = pool.settings.deploy_dir / "cache" / version.manifest_digest / "model.safetensors"
    weights.write_bytes(b"WEIGHTS")
    with pytest.raises(Unavailable, match="pulled again"):
        await pool.driver.start(StartOrder(replica, release, SERVED_NAME, version))
    assert await pool.pulled(version, release) is PullState.DONE
    assert weights.read_bytes() == b"weights"
    await pool.started_again(version, release, replica)


@pytest.mark.parametrize("pool", OWN, indirect=True)
async def test_adapters_come_and_go_while_an_engine_runs(pool: PoolUnderTest) -> None:
    version, adapter = pool.version(), pool.version(weights="adapter")
    release = pool.release(version, engine=pool.release(version).engine.model_copy(update={"max_adapters": 1}))
    replica = await pool.ready(version, release)
    with pytest.raises(Unavailable, match="pulled again"):
        await pool.driver.load_adapter(replica, "pirate", adapter)
    looked = await pool.driver.loaded_adapters(replica)
    assert looked is not None and dict(looked.listed) == {}
    await pool.driver.unload_adapter(replica, "pirate")
