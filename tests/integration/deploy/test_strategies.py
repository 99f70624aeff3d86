"""Strategies over the real store: what gateways tell decides, people's requests hold at once, and the stable release serves on."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

from factories.deploy import Pool
from factories.traffic import pair_tally
from quantry_core.jobs import JobReason, JobStatus
from quantry_core.rollouts import ReplicaState, Rollout, RolloutReason, RolloutRequest, RolloutState
from quantry_core.rules import AnalysisSpec, ErrorRateCompared
from quantry_core.strategies import (
    AbStrategy,
    BlueGreenStrategy,
    CanaryStep,
    CanaryStrategy,
    ImmediateStrategy,
    OnShadowPass,
    ShadowStrategy,
    Strategy,
)
from quantry_core.verdicts import Verdict

PASSES_UNTIL_UNDONE = 1
"""Of the controller, from the evidence to routes without the candidate: how long a pass takes is the machine's affair."""
RULES = AnalysisSpec(rules=[ErrorRateCompared(max_increase=0.1)])
CANARY = CanaryStrategy(
    steps=[CanaryStep(percent=10), CanaryStep(percent=50, pause=True), CanaryStep(percent=100, analysis=False)], analysis=RULES
)


async def moving(pool: Pool, strategy: Strategy, behaviour: str = "serve", **changes: Any) -> tuple[Rollout, Rollout]:
    """Returns the rollout of what serves, and the one that begins."""
    first = await pool.serving(await pool.version(weights="first"))
    version = await pool.version(behaviour, weights="second")
    return first, await pool.platform.rollout(version, strategy=strategy, **{"watch_s": 0, **changes})


async def good(pool: Pool, *rollouts: Rollout) -> None:
    """Has gateways tell of a release that is as good as another."""
    for rollout in rollouts:
        await pool.told(rollout.to_release_id, answered=400)


async def test_a_canary_goes_from_step_to_step_to_its_promotion(pool: Pool) -> None:
    first, rollout = await moving(pool, CANARY)
    await pool.until_rollout(rollout, percent=10)
    assert await pool.shares() == {first.to_release_id: 90, rollout.to_release_id: 10}
    await pool.look()
    now = await pool.rollout(rollout)
    assert now.judgement is not None
    assert now.judgement.verdict is Verdict.INCONCLUSIVE
    assert now.stage == 0
    await good(pool, first, rollout)
    await pool.until_rollout(rollout, percent=50)
    await pool.look()
    # Each step stands on evidence of its own.
    assert (await pool.rollout(rollout)).state is RolloutState.PROGRESSING
    await good(pool, first, rollout)
    paused = await pool.until_rollout(rollout, state=RolloutState.PAUSED)
    assert (paused.reason, paused.percent) == (RolloutReason.STEP, 50)
    await pool.ask(rollout, RolloutRequest.RESUME)
    await pool.until_rollout(rollout, state=RolloutState.PROMOTED)
    assert await pool.shares() == {rollout.to_release_id: 100}
    job = await pool.job(rollout)
    assert (job.status, job.reason) == (JobStatus.SUCCEEDED, JobReason.COMPLETED)
    told = [event.data for event in await pool.progress(rollout)]
    assert any(data["phase"] == "canary" and "canary 10%, analysis inconclusive" in data["detail"] for data in told)
    fractions = [data["fraction"] for data in told]
    assert fractions == sorted(fractions)


async def test_a_failed_verdict_takes_the_share_back_and_says_why(pool: Pool) -> None:
    first, rollout = await moving(pool, CANARY)
    await pool.until_rollout(rollout, percent=10)
    await pool.told(first.to_release_id, answered=400)
    await pool.told(rollout.to_release_id, answered=100, failed=300)
    await pool.look(PASSES_UNTIL_UNDONE)
    over = await pool.rollout(rollout)
    assert over.state is RolloutState.ROLLED_BACK
    assert (over.reason, over.percent) == (RolloutReason.VERDICT_FAILED, 0)
    assert over.message is not None
    assert "error_rate_compared: 300 of 400 requests failed" in over.message
    assert over.judgement is not None
    assert over.judgement.verdict is Verdict.FAIL
    assert await pool.shares() == {first.to_release_id: 100}
    job = await pool.job(rollout)
    assert (job.status, job.reason, job.message) == (JobStatus.FAILED, JobReason.VERDICT_FAILED, over.message)

    async def is_alone() -> bool:
        return {replica.release_id for replica in await pool.replicas()} == {first.to_release_id}

    await pool.until(is_alone)


async def test_a_replica_that_hangs_does_not_hold_up_a_rollback(pool: Pool) -> None:
    first, rollout = await moving(pool, CANARY)
    await pool.until_rollout(rollout, percent=10)
    hung = next(replica for replica in await pool.replicas() if replica.release_id == first.to_release_id)
    assert hung.pid is not None
    os.kill(hung.pid, signal.SIGSTOP)
    try:
        await pool.told(first.to_release_id, answered=400)
        await pool.told(rollout.to_release_id, failed=400)
        began_s = time.monotonic()
        await pool.controller.look()
        await pool.controller.settle(within_s=5)
        assert (await pool.rollout(rollout)).state is RolloutState.ROLLED_BACK
        assert time.monotonic() - began_s < 1
    finally:
        os.kill(hung.pid, signal.SIGCONT)


async def test_a_candidate_that_hangs_at_its_share_is_rolled_back(pool: Pool) -> None:
    first, rollout = await moving(pool, CANARY)
    await pool.until_rollout(rollout, percent=10)
    candidate = next(replica for replica in await pool.replicas() if replica.release_id == rollout.to_release_id)
    assert candidate.pid is not None
    os.kill(candidate.pid, signal.SIGSTOP)
    try:
        over = await pool.until_rollout(rollout, state=RolloutState.ROLLED_BACK)
    finally:
        os.kill(candidate.pid, signal.SIGCONT)
    assert over.reason is RolloutReason.NOT_READY
    assert over.message is not None
    assert "0 of 1 replicas of bard@2 stayed ready" in over.message
    assert await pool.shares() == {first.to_release_id: 100}


async def test_people_pause_resume_and_promote(pool: Pool) -> None:
    first, rollout = await moving(pool, AbStrategy(percent=30, analysis=RULES))
    await pool.until_rollout(rollout, percent=30)
    await pool.ask(rollout, RolloutRequest.PAUSE)
    await good(pool, first, rollout)
    await pool.look()
    held = await pool.rollout(rollout)
    assert (held.state, held.reason, held.percent) == (RolloutState.PAUSED, RolloutReason.REQUESTED, 30)
    await pool.ask(rollout, RolloutRequest.PROMOTE)
    await pool.until_rollout(rollout, state=RolloutState.PROMOTED)
    assert await pool.shares() == {rollout.to_release_id: 100}


async def test_an_abort_takes_the_share_back_at_once(pool: Pool) -> None:
    first, rollout = await moving(pool, AbStrategy(percent=30, analysis=RULES))
    await pool.until_rollout(rollout, percent=30)
    await pool.ask(rollout, RolloutRequest.ABORT)
    # Without the controller.
    assert await pool.shares() == {first.to_release_id: 100}
    await pool.look()
    assert (await pool.rollout(rollout)).state is RolloutState.ABORTED


async def test_a_shadow_gets_no_share_and_is_judged_by_its_pairs(pool: Pool) -> None:
    first, rollout = await moving(pool, ShadowStrategy(percent=20, on_pass=OnShadowPass.PROMOTE))
    await pool.until_rollout(rollout, mirror_percent=20)
    route = await pool.route()
    assert route.mirror is not None
    assert await pool.shares() == {first.to_release_id: 100}
    await pool.told(rollout.to_release_id, pairs=pair_tally([0.0] * 400, [0.01] * 400))
    await pool.until_rollout(rollout, state=RolloutState.PROMOTED)


async def test_blue_green_moves_all_at_once_when_a_person_lets_it(pool: Pool) -> None:
    first, rollout = await moving(pool, BlueGreenStrategy(pause=True))
    paused = await pool.until_rollout(rollout, state=RolloutState.PAUSED)
    assert paused.reason is RolloutReason.STEP
    assert await pool.shares() == {first.to_release_id: 100}
    await pool.ask(rollout, RolloutRequest.RESUME)
    await pool.until_rollout(rollout, state=RolloutState.PROMOTED)


async def test_releases_that_do_not_both_fit_take_turns(pool: Pool) -> None:
    first = await pool.serving(await pool.version(weights="first"), replicas=2)
    strategy = ImmediateStrategy(max_surge=1)
    rollout = await pool.platform.rollout(await pool.version(weights="second"), strategy=strategy, replicas=2, watch_s=0)
    shares, most = [], 0

    async def is_promoted() -> bool:
        nonlocal most
        shares.append((await pool.shares()).get(rollout.to_release_id, 0))
        most = max(most, len(await pool.replicas()))
        return (await pool.rollout(rollout)).state is RolloutState.PROMOTED

    await pool.until(is_promoted)
    assert most == 3
    assert shares == sorted(shares)
    assert 0 < shares[-2] < 100
    assert await pool.shares() == {rollout.to_release_id: 100}
    assert first.to_release_id != rollout.to_release_id


async def test_the_next_controller_goes_on_with_a_canary_by_the_evidence_that_is_there(pool: Pool) -> None:
    first, rollout = await moving(pool, CANARY)
    await pool.until_rollout(rollout, percent=10)
    before = [replica.pid for replica in await pool.replicas()]
    pool.replace_controller()
    await pool.look()
    assert (await pool.rollout(rollout)).stage == 0
    await good(pool, first, rollout)
    pool.replace_controller()
    await pool.until_rollout(rollout, percent=50)
    assert [replica.pid for replica in await pool.replicas()] == before


async def test_a_release_that_fails_in_its_watch_gives_way_to_the_one_before_at_once(pool: Pool) -> None:
    strategy = CanaryStrategy(steps=[CanaryStep(percent=100, analysis=False)], analysis=RULES)
    first, rollout = await moving(pool, strategy, watch_s=60)
    await pool.told(first.to_release_id, answered=400)
    await pool.until_rollout(rollout, state=RolloutState.PROMOTED)
    await pool.look()
    assert {replica.release_id for replica in await pool.replicas()} == {first.to_release_id, rollout.to_release_id}
    await pool.told(rollout.to_release_id, answered=100, failed=300)

    async def is_back() -> bool:
        return await pool.shares() == {first.to_release_id: 100}

    await pool.look(PASSES_UNTIL_UNDONE)
    assert await is_back()
    back = (await pool.platform.deployment()).current_release
    assert back is not None
    assert back.id == first.to_release_id

    async def is_alone() -> bool:
        return {replica.release_id for replica in await pool.replicas()} == {first.to_release_id}

    await pool.until(is_alone)
    # What was promoted stays promoted; the way back is a rollout of its own.
    assert (await pool.rollout(rollout)).state is RolloutState.PROMOTED


async def test_a_crash_loop_in_the_watch_brings_the_release_before_back(pool: Pool) -> None:
    first, rollout = await moving(pool, ImmediateStrategy(), watch_s=60)
    await pool.until_rollout(rollout, state=RolloutState.PROMOTED)

    async def is_back() -> bool:
        for replica in await pool.replicas():
            if replica.release_id == rollout.to_release_id and replica.state is ReplicaState.READY and replica.pid is not None:
                os.kill(replica.pid, signal.SIGKILL)
        return await pool.shares() == {first.to_release_id: 100}

    await pool.until(is_back)


async def test_the_release_before_goes_when_the_watch_is_over(pool: Pool) -> None:
    first, rollout = await moving(pool, ImmediateStrategy(), watch_s=1)
    await pool.until_rollout(rollout, state=RolloutState.PROMOTED)
    assert first.to_release_id in {replica.release_id for replica in await pool.replicas()}

    async def is_alone() -> bool:
        return {replica.release_id for replica in await pool.replicas()} == {rollout.to_release_id}

    await pool.until(is_alone)
    assert (await pool.platform.deployment()).watched_rollout is None
