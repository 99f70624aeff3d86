"""Rollouts from submission to promotion, and every way back."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from factories.deploy import Pool, ask
from quantry_core.jobs import EngineConfig, JobReason, JobStatus
from quantry_core.rollouts import ReplicaState, RolloutState


async def rollout_state(pool: Pool, rollout_id: str) -> RolloutState:
    ((state,),) = await pool.platform.sql("SELECT state FROM rollouts WHERE id = %s", rollout_id)
    return RolloutState(state)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


async def test_the_first_rollout_brings_every_replica_up_and_ends_its_job(pool: Pool) -> None:
    version = await pool.version()
    rollout = await pool.serving(version, replicas=2)
    deployment = await pool.platform.deployment()
    assert deployment.current_release is not None
    assert deployment.current_release.id == rollout.to_release_id
    assert deployment.active_rollout is None
    assert [(replica.ordinal, replica.state, replica.num_restarts) for replica in deployment.replicas] == [
        (0, ReplicaState.READY, 0),
        (1, ReplicaState.READY, 0),
    ]
    route = await pool.route()
    assert {replica.url for replica in route.replicas} == {replica.url for replica in deployment.replicas}
    assert {(await ask(replica.url))["pid"] for replica in route.replicas} == {replica.pid for replica in deployment.replicas}
    job = await pool.job(rollout)
    assert (job.status, job.reason) == (JobStatus.SUCCEEDED, JobReason.COMPLETED)
    assert job.result is not None
    assert job.result.release_id == rollout.to_release_id


async def test_progress_tells_the_phases_in_order(pool: Pool) -> None:
    rollout = await pool.serving(await pool.version(), replicas=2)
    progress = [event.data for event in await pool.progress(rollout)]
    phases = list(dict.fromkeys(data["phase"] for data in progress))
    assert phases[-2:] == ["starting", "ready"]
    assert set(phases) <= {"pulling", "starting", "ready"}
    fractions = [data["fraction"] for data in progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0


async def test_an_engine_sees_the_pulled_files_and_no_secret(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTRY_S3_SECRET_KEY", "a secret")
    monkeypatch.setenv("QUANTRY_DATABASE_URL", "postgresql://secret")
    version = await pool.version()
    await pool.serving(version)
    (replica,) = await pool.replicas()
    assert replica.url is not None
    told = await ask(replica.url)
    folder = Path(str(told["model"]))
    assert folder == pool.settings.deploy_dir / "cache" / version.manifest_digest
    assert names_in(folder) == [".quantry-complete.json", "config.json", "model.safetensors"]
    environment = told["environment"]
    assert isinstance(environment, dict)
    assert "secret" not in str(environment)
    assert set(environment) - {"PATH", "HOME", "LANG", "LC_CTYPE", "TMPDIR", "TZ", "LD_LIBRARY_PATH"} == {
        "QUANTRY_REPLICA_ID",
        "QUANTRY_REPLICA_URL",
        "QUANTRY_DEPLOY_DIR",
        "QUANTRY_STATE_DIR",
        "SPT_NOENV",
        "VLLM_CACHE_ROOT",
    }
    assert replica.log_path is not None
    assert mode_of(Path(replica.log_path)) == 0o600
    assert "fake engine: serve" in await pool.driver.log_tail(replica)


async def test_the_old_release_serves_until_the_new_one_is_ready_and_then_drains(pool: Pool) -> None:
    first = await pool.serving(await pool.version(weights="first"))
    (old,) = await pool.replicas()
    rollout = await pool.platform.rollout(await pool.version(weights="second"), watch_s=0)
    releases_routed = []

    async def has_drained() -> bool:
        route = await pool.route()
        releases_routed.append({replica.release_id for replica in route.replicas})
        return [replica.release_id for replica in await pool.replicas()] == [rollout.to_release_id]

    await pool.until(has_drained)
    assert set() not in releases_routed
    assert releases_routed[0] == {first.to_release_id}
    assert releases_routed[-1] == {rollout.to_release_id}
    # Drained, not dropped: it was still there when the route had moved on.
    assert releases_routed.count({rollout.to_release_id}) > 1
    assert old.id not in await pool.driver.running()


async def test_an_engine_that_crashes_is_rolled_back_with_its_last_words(pool: Pool) -> None:
    await pool.serving(await pool.version(weights="good"))
    (good,) = await pool.replicas()
    rollout = await pool.platform.rollout(await pool.version("crash"))
    job = await pool.until_finished(rollout)
    assert (job.status, job.reason) == (JobStatus.FAILED, JobReason.INTERNAL)
    assert job.message is not None
    assert "RuntimeError: the weights do not fit this engine" in job.message
    assert "ended 4 times" in job.message
    assert await rollout_state(pool, rollout.id) is RolloutState.ROLLED_BACK

    async def is_alone() -> bool:
        return [replica.id for replica in await pool.replicas()] == [good.id]

    await pool.until(is_alone)
    assert [replica.url for replica in (await pool.route()).replicas] == [good.url]


async def test_an_engine_that_is_never_healthy_times_out(pool: Pool) -> None:
    rollout = await pool.platform.rollout(await pool.version("never"), ready_timeout_s=10)

    async def is_starting() -> bool:
        return [replica.state for replica in await pool.replicas()] == [ReplicaState.STARTING]

    await pool.until(is_starting)
    await pool.platform.sql("UPDATE rollouts SET ready_deadline_at = now() - interval '1 second' WHERE id = %s", rollout.id)
    job = await pool.until_finished(rollout)
    assert (job.status, job.reason) == (JobStatus.FAILED, JobReason.TIMED_OUT)
    assert job.message is not None
    assert "0 of 1 replicas" in job.message

    async def is_gone() -> bool:
        return await pool.replicas() == [] and await pool.driver.running() == {}

    await pool.until(is_gone)


async def test_an_engine_of_another_model_is_not_ready(pool: Pool) -> None:
    rollout = await pool.platform.rollout(await pool.version("impostor"))

    async def is_starting() -> bool:
        return [replica.state for replica in await pool.replicas()] == [ReplicaState.STARTING]

    await pool.until(is_starting)
    (replica,) = await pool.replicas()

    async def is_doubted() -> bool:
        return "it serves somebody-else, not chat" in (await pool.driver.probe(replica, "chat")).doubt

    await pool.until(is_doubted)
    assert not (await pool.driver.probe(replica, "chat")).is_proven
    assert [replica.state for replica in await pool.replicas()] == [ReplicaState.STARTING]
    assert await rollout_state(pool, rollout.id) is RolloutState.PROGRESSING


async def test_bytes_that_are_not_their_digest_are_never_served(pool: Pool) -> None:
    version = await pool.version()
    await pool.damage(version, "model.safetensors")
    job = await pool.until_finished(await pool.platform.rollout(version))
    assert job.status is JobStatus.FAILED
    assert job.message is not None
    assert "cannot be served" in job.message
    assert list((pool.settings.deploy_dir / "cache").iterdir()) == []
    assert await pool.driver.running() == {}


async def test_a_configuration_the_model_cannot_have_is_refused_before_an_engine_starts(pool: Pool) -> None:
    version = await pool.version()
    config = pool.settings.deploy_dir / "replicas"
    rollout = await pool.platform.rollout(version, engine=EngineConfig(max_model_len_tokens=4096))
    job = await pool.until_finished(rollout)
    assert (job.status, job.reason) == (JobStatus.FAILED, JobReason.INVALID_INPUT)
    assert job.message is not None
    assert "knows 1024 positions" in job.message
    assert list(config.iterdir()) == []


async def test_a_cancelled_deploy_job_leaves_nothing_behind(pool: Pool) -> None:
    rollout = await pool.platform.rollout(await pool.version("never"))

    async def is_starting() -> bool:
        return [replica.state for replica in await pool.replicas()] == [ReplicaState.STARTING]

    await pool.until(is_starting)
    await pool.cancel(rollout)
    job = await pool.until_finished(rollout)
    assert (job.status, job.reason) == (JobStatus.CANCELLED, JobReason.CANCELLED)
    assert await rollout_state(pool, rollout.id) is RolloutState.ABORTED

    async def is_gone() -> bool:
        return await pool.replicas() == [] and await pool.driver.running() == {}

    await pool.until(is_gone)


async def test_a_deploy_job_cancelled_before_it_began_is_aborted(pool: Pool) -> None:
    rollout = await pool.platform.rollout(await pool.version())
    await pool.cancel(rollout)
    job = await pool.until_finished(rollout)
    assert job.status is JobStatus.CANCELLED
    assert await pool.replicas() == []


async def test_one_deployment_that_fails_does_not_hold_up_another(pool: Pool) -> None:
    broken = await pool.platform.rollout(await pool.version("crash"), "broken")
    await pool.serving(await pool.version(), "chat")
    job = await pool.until_finished(broken)
    assert job.status is JobStatus.FAILED
    assert len((await pool.route("chat")).replicas) == 1
