"""Replicas that go when nobody asks and come back when somebody does; and rollbacks by people, warm and cold."""

from __future__ import annotations

from factories.deploy import Pool
from quantry_core.jobs import Scaling
from quantry_core.rollouts import ReplicaState, RollbackOrder, RolloutState
from quantry_store.transactions import roll_back

TO_ZERO = Scaling(min_replicas=0, max_replicas=2, idle_after_s=1, scale_down_after_s=1)


async def asleep(pool: Pool) -> bool:
    deployment = await pool.platform.deployment()
    return deployment.num_wanted == 0 and deployment.replicas == []


async def awake(pool: Pool) -> bool:
    return [replica.state for replica in await pool.replicas()] == [ReplicaState.READY]


async def test_a_deployment_sleeps_when_nobody_asks_and_wakes_with_a_request(pool: Pool) -> None:
    rollout = await pool.platform.rollout(await pool.version(), scaling=TO_ZERO)
    await pool.until_finished(rollout)
    await pool.until(lambda: asleep(pool))
    assert (await pool.route()).wakes
    await pool.demanded()
    await pool.until(lambda: awake(pool))
    assert (await pool.platform.deployment()).num_wanted == 1
    # The next controller has not seen any of that, and lets it sleep in its time.
    pool.replace_controller()
    await pool.until(lambda: asleep(pool))


async def test_a_deployment_that_is_asked_stays_awake(pool: Pool) -> None:
    rollout = await pool.platform.rollout(await pool.version(), scaling=TO_ZERO.model_copy(update={"idle_after_s": 3600.0}))
    await pool.until_finished(rollout)
    await pool.told(rollout.to_release_id, answered=1)
    await pool.look(10)
    assert await awake(pool)


async def test_replicas_follow_what_waits_in_the_engines(pool: Pool) -> None:
    metrics = pool.settings.deploy_dir.parent / "engine-metrics"

    def waiting(num: int) -> None:
        gauges = {"running": 1, "waiting": num}
        metrics.write_text("".join(f'vllm:num_requests_{name}{{engine="0"}} {value}\n' for name, value in gauges.items()))

    async def has(num: int) -> bool:
        states = [replica.state for replica in await pool.replicas()]
        return states == [ReplicaState.READY] * num and (await pool.platform.deployment()).num_wanted == num

    waiting(0)
    scaling = Scaling(min_replicas=1, max_replicas=3, target_waiting=2, scale_down_after_s=1)
    await pool.until_finished(await pool.platform.rollout(await pool.version(), scaling=scaling))
    waiting(2)
    await pool.look(5)
    assert len(await pool.replicas()) == 1
    # Four wait in each: two replicas are too few for that, and so are three.
    waiting(4)
    await pool.until(lambda: has(3))
    waiting(0)
    await pool.until(lambda: has(1))
    assert [replica.ordinal for replica in await pool.replicas()] == [0]


async def test_a_rollback_to_a_warm_release_is_a_change_of_weights(pool: Pool) -> None:
    first = await pool.serving(await pool.version(weights="first"))
    second = await pool.platform.rollout(await pool.version(weights="second"), watch_s=600)
    await pool.until_rollout(second, state=RolloutState.PROMOTED)
    before = {replica.id for replica in await pool.replicas()}
    async with pool.database.begin() as uow:
        await roll_back(uow, pool.platform.admin, "chat", RollbackOrder(note="worse at poems"))
    # No controller has looked.
    assert await pool.shares() == {first.to_release_id: 100}
    assert {replica.id for replica in await pool.replicas()} == before

    async def is_alone() -> bool:
        return {replica.release_id for replica in await pool.replicas()} == {first.to_release_id}

    await pool.until(is_alone)


async def test_a_rollback_to_a_release_that_is_gone_brings_it_up_first(pool: Pool) -> None:
    first = await pool.serving(await pool.version(weights="first"))
    second = await pool.serving(await pool.version(weights="second"))

    async def is_alone() -> bool:
        return {replica.release_id for replica in await pool.replicas()} == {second.to_release_id}

    await pool.until(is_alone)
    async with pool.database.begin() as uow:
        deployment = await roll_back(uow, pool.platform.admin, "chat", RollbackOrder(release=1))
    assert deployment.active_rollout is not None
    assert await pool.shares() == {second.to_release_id: 100}
    await pool.until_rollout(deployment.active_rollout, state=RolloutState.PROMOTED)
    assert await pool.shares() == {first.to_release_id: 100}
