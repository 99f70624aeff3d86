"""Every rollout converges to the same end whichever action its controller is killed at; and no walk of the world breaks a promise."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories.rollout_world import Behaviour, Judge, World
from quantry_core.rollouts import ReplicaState, RolloutReason, RolloutState
from quantry_core.strategies import (
    AbStrategy,
    BlueGreenStrategy,
    CanaryStep,
    CanaryStrategy,
    ImmediateStrategy,
    OnInconclusive,
    OnShadowPass,
    ShadowStrategy,
    Strategy,
)
from quantry_core.verdicts import Verdict
from quantry_deploy.actions import EndRollout, PromoteRollout, RolloutMove, StageRollout, UndoPromotion
from quantry_deploy.observations import Observations, PullState
from quantry_deploy.stages import rollout_stages, stage_now
from quantry_deploy.wanted import turns
from quantry_store.transactions.rollouts import DeploymentRecord

CANARY = CanaryStrategy(
    steps=[CanaryStep(percent=10, wait_s=4), CanaryStep(percent=50), CanaryStep(percent=100, analysis=False)],
    step_timeout_s=20,
    on_inconclusive=OnInconclusive.ROLL_BACK,
)
SHADOW = ShadowStrategy(deadline_s=20, on_pass=OnShadowPass.PROMOTE, on_inconclusive=OnInconclusive.ROLL_BACK)
AB = AbStrategy(deadline_s=20)


def passes(part: str, seconds: float) -> Verdict:
    return Verdict.PASS if seconds >= 3 else Verdict.INCONCLUSIVE


def fails_at(failing: str) -> Judge:
    def judge(part: str, seconds: float) -> Verdict:
        return Verdict.FAIL if part == failing and seconds >= 3 else passes(part, seconds)

    return judge


def never(part: str, seconds: float) -> None:
    return None


GOOD = Behaviour()
CRASHES, HANGS = Behaviour(ends_after_s=2.0), Behaviour(answers_after_s=None)
REFUSED = Behaviour(files=PullState.REFUSED)

Case = tuple[Callable[[], World], RolloutState, RolloutReason | None, str]


def world(strategy: Strategy, **options: Any) -> Callable[[], World]:
    return lambda: World(strategy, **options)


PROMOTED, BACK = RolloutState.PROMOTED, RolloutState.ROLLED_BACK

CASES: dict[str, Case] = {
    "immediate": (world(ImmediateStrategy()), PROMOTED, None, "rel_new"),
    "immediate first": (world(ImmediateStrategy(), is_first=True), PROMOTED, None, "rel_new"),
    "rolling": (world(ImmediateStrategy(max_surge=1)), PROMOTED, None, "rel_new"),
    "rolling without surge": (world(ImmediateStrategy(max_surge=0, max_unavailable=1)), PROMOTED, None, "rel_new"),
    "rolling crashes": (world(ImmediateStrategy(max_surge=1), behaviour=CRASHES), BACK, RolloutReason.CRASH_LOOP, "rel_old"),
    "blue-green": (world(BlueGreenStrategy(), watch_s=10), PROMOTED, None, "rel_new"),
    "crashes": (world(BlueGreenStrategy(), behaviour=CRASHES), BACK, RolloutReason.CRASH_LOOP, "rel_old"),
    "hangs": (world(ImmediateStrategy(), behaviour=HANGS), BACK, RolloutReason.NOT_READY, "rel_old"),
    "refused": (world(CANARY, behaviour=REFUSED), BACK, RolloutReason.NOT_SERVABLE, "rel_old"),
    "canary": (world(CANARY, judge=passes, watch_s=10), PROMOTED, None, "rel_new"),
    "canary first": (world(CANARY, judge=never, is_first=True, watch_s=10), PROMOTED, None, "rel_new"),
    "canary fails at 10": (world(CANARY, judge=fails_at("stage 0")), BACK, RolloutReason.VERDICT_FAILED, "rel_old"),
    "canary fails at 50": (world(CANARY, judge=fails_at("stage 1")), BACK, RolloutReason.VERDICT_FAILED, "rel_old"),
    "canary without data": (world(CANARY, judge=never), BACK, RolloutReason.INCONCLUSIVE, "rel_old"),
    "ab": (world(AB, judge=passes), PROMOTED, None, "rel_new"),
    "ab without data": (world(AB, judge=never), BACK, RolloutReason.INCONCLUSIVE, "rel_old"),
    "shadow": (world(SHADOW, judge=passes), PROMOTED, None, "rel_new"),
    "shadow fails": (world(SHADOW, judge=fails_at("stage 0")), BACK, RolloutReason.VERDICT_FAILED, "rel_old"),
    "watch fails": (world(CANARY, judge=fails_at("watch"), watch_s=30), PROMOTED, None, "rel_old"),
    "watch crashes": (world(BlueGreenStrategy(), behaviour=Behaviour(ends_when_promoted=True), watch_s=60), PROMOTED, None, "rel_old"),
}


def assert_end(one: World, case: Case, what: str) -> None:
    _, state, reason, serving = case
    assert one.rollout.state is state, what
    assert one.rollout.reason is reason, what
    assert one.current is not None, what
    assert one.current.id == serving, what
    assert set(one.engines) == set(one.replicas), f"{what}: an engine was left behind"
    if not isinstance(one.rollout.strategy, ImmediateStrategy) and "watch crashes" not in what:
        assert one.outages == [], what
    if what.startswith("watch"):
        assert one.rollouts[1].finished_at == one.rollouts[1].created_at, f"{what}: the release before was not warm"


@pytest.mark.parametrize("name", CASES)
def test_it_ends_as_it_should_whichever_action_the_controller_is_killed_at(name: str) -> None:
    case = CASES[name]
    undisturbed = case[0]()
    undisturbed.run()
    assert_end(undisturbed, case, name)
    assert undisturbed.num_actions >= 3
    for index in range(undisturbed.num_actions):
        for before in (True, False):
            one = case[0]()
            one.kill_at = (index, before)
            one.run()
            assert_end(one, case, f"{name}, killed {'before' if before else 'after'} action {index}")


def test_a_controller_killed_again_and_again_gets_there() -> None:
    for name in ("canary", "rolling", "watch crashes"):
        one = CASES[name][0]()
        for turn in range(400):
            one.kill_at = (one.num_actions + turn % 3, turn % 2 == 0)
            one.step()
        one.kill_at = None
        one.run()
        assert_end(one, CASES[name], name)


class Watchful(World):
    """Looks at every move as it is decided, and holds it against what was promised."""

    def __init__(self, strategy: Strategy, **options: Any) -> None:
        super().__init__(strategy, **options)
        self.last: tuple[DeploymentRecord, Observations] | None = None

    def observe(self, record: DeploymentRecord) -> Observations:
        seen = super().observe(record)
        self.last = (record, seen)
        return seen

    def _move(self, move: RolloutMove) -> None:
        assert self.last is not None
        record, seen = self.last
        over = {one.id for one in self.rollouts if one.finished_at is not None}
        super()._move(move)
        active = move.rollout
        if not isinstance(move, UndoPromotion) and active.id in over:
            assert active.id == record.deployment.watched_rollout.id if record.deployment.watched_rollout else False, "terminal states stay"
        verdict = seen.judgements[active.id].verdict if active.id in seen.judgements else None
        replicas = [one for one in record.deployment.replicas if one.release_id == active.to_release_id]
        num_up = sum(one.state is ReplicaState.READY and seen.replica(one.id).is_running for one in replicas)
        is_ready = num_up == record.releases[active.to_release_id].num_replicas
        if isinstance(move, StageRollout):
            assert active.state is RolloutState.PROGRESSING
            assert is_ready or turns(record) is not None, "a share only for a whole candidate"
            assert move.stage in {active.stage, active.stage + 1}
        has_left = isinstance(move, PromoteRollout) or (isinstance(move, StageRollout) and move.stage > active.stage)
        if has_left and not (active.promote_requested and isinstance(move, PromoteRollout)):
            assert verdict is Verdict.PASS or not stage_now(active).needs_verdict, "no data is never a pass"
        if isinstance(move, PromoteRollout):
            assert is_ready
            assert active.promote_requested or active.stage == len(rollout_stages(active)) - 1
        if isinstance(move, EndRollout) and move.reason is RolloutReason.VERDICT_FAILED:
            assert verdict is Verdict.FAIL
            assert not active.promote_requested


STRATEGIES: list[Strategy] = [
    ImmediateStrategy(),
    ImmediateStrategy(max_surge=1),
    ImmediateStrategy(max_surge=0, max_unavailable=2),
    BlueGreenStrategy(pause=True),
    CANARY,
    CANARY.model_copy(update={"on_inconclusive": OnInconclusive.PAUSE}),
    AB,
    SHADOW,
    ShadowStrategy(deadline_s=20),
]

EVENTS = ["nothing", "kill", "crash", "pause", "resume", "promote", "abort", "cancel", "stop", "start", *Verdict, "blind"]


def resumed_by(reason: RolloutReason | None, now: datetime) -> dict[str, object]:
    """Returns what a person's resume changes, as the store does it: only a stage that waits for a person is let through."""
    match reason:
        case RolloutReason.STEP:
            return {"is_resumed": True}
        case RolloutReason.INCONCLUSIVE:
            return {"staged_at": now}
        case _:
            return {}


def happen(one: World, event: str, says: dict[str, Verdict | None]) -> None:
    """Lets one thing happen to the world, where it can."""
    active = one.active
    match event:
        case "kill":
            one.kill_at = (one.num_actions, True)
        case "crash":
            for engine in list(one.engines.values())[-1:]:
                engine.ended_at = one.now
        case "pause" if active is not None and active.state is RolloutState.PROGRESSING:
            one.ask(state=RolloutState.PAUSED, reason=RolloutReason.REQUESTED)
        case "resume" if active is not None and active.state is RolloutState.PAUSED:
            one.ask(state=RolloutState.PROGRESSING, reason=None, **resumed_by(active.reason, one.now))
        case "promote" if active is not None and active.state is not RolloutState.PENDING:
            paused = active.state is RolloutState.PAUSED
            one.ask(promote_requested=True, **({"state": RolloutState.PROGRESSING} if paused else {}))
        case "abort" if active is not None:
            one.ask(state=RolloutState.ABORTED, reason=RolloutReason.REQUESTED, percent=0, mirror_percent=0, finished_at=one.now)
        case "cancel":
            one.is_cancelled = active is not None
        case "stop" | "start":
            one.is_stopped = event == "stop"
            one.watched_id = None if one.is_stopped else one.watched_id
        case "pass" | "fail" | "inconclusive":
            says["now"] = Verdict(event)
        case "blind":
            says["now"] = None


@settings(max_examples=300, deadline=None)
@given(
    strategy=st.sampled_from(STRATEGIES),
    is_first=st.booleans(),
    watch_s=st.sampled_from([0.0, 20.0]),
    behaviour=st.sampled_from([GOOD, GOOD, GOOD, CRASHES, HANGS, REFUSED]),
    events=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(1, 8)), max_size=40),
)
def test_no_walk_breaks_a_promise_and_every_one_comes_to_an_end(
    strategy: Strategy, *, is_first: bool, watch_s: float, behaviour: Behaviour, events: list[tuple[str, int]]
) -> None:
    says: dict[str, Verdict | None] = {"now": None}
    one = Watchful(strategy, judge=lambda part, seconds: says["now"], is_first=is_first, watch_s=watch_s, behaviour=behaviour)
    for event, steps in events:
        happen(one, str(event), says)
        for _ in range(steps):
            one.step()
        one.kill_at = None
        one.is_cancelled = one.is_cancelled and one.active is not None
    # Nobody says anything more: what waits for a person is ended by one.
    one.is_stopped = one.is_cancelled = False
    for _ in range(40):
        one.step()
        active = one.active
        if active is not None and active.state is RolloutState.PAUSED:
            one.ask(state=RolloutState.ABORTED, percent=0, mirror_percent=0, finished_at=one.now)
    says["now"] = None
    for _ in range(600):
        if one.active is None and one.watched_id is None:
            break
        one.step()
        active = one.active
        if active is not None and active.state is RolloutState.PAUSED:
            one.ask(state=RolloutState.ABORTED, percent=0, mirror_percent=0, finished_at=one.now)
    assert one.active is None, one.rollouts
    assert one.watched_id is None
