"""Each strategy from its first ready replica to its end."""

from __future__ import annotations

from typing import Any

import pytest

from factories.rollout_records import NOW, ago, judged, record, release, replica, rollout
from quantry_core.jobs import JobReason, Scaling
from quantry_core.rollouts import ReplicaState, Rollout, RolloutReason, RolloutState
from quantry_core.rules import AnalysisSpec
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
from quantry_core.verdicts import Judgement, Verdict
from quantry_deploy.actions import Action, EndRollout, PauseRollout, PromoteRollout, StageRollout
from quantry_deploy.decide import decide
from quantry_deploy.observations import Observations, Readiness, ReplicaObservation
from quantry_deploy.policy import Policy
from quantry_deploy.stages import WITHOUT_STABLE, Stage, analysis_of, num_judged, stages_of

POLICY = Policy(resumed_at=ago(5000))
OLD, NEW = release("rel_old"), release("rel_new")
ANSWERS = ReplicaObservation(is_running=True, answers=True, is_proven=True)
RUNS = ReplicaObservation(is_running=True)
CANARY = CanaryStrategy(
    steps=[CanaryStep(percent=10, wait_s=30), CanaryStep(percent=50, pause=True), CanaryStep(percent=100, analysis=False)],
    step_timeout_s=600,
)
PASS, FAIL, INCONCLUSIVE = judged(Verdict.PASS), judged(Verdict.FAIL), judged(Verdict.INCONCLUSIVE)


def moving(strategy: Strategy, **changes: Any) -> Rollout:
    return rollout(strategy=strategy, from_release_id=OLD.id, **changes)


def staged(strategy: Strategy, *, stage: int = 0, for_s: float = 0.0, **changes: Any) -> Rollout:
    """Returns a rollout that has been at a stage for so long."""
    at = stages_of(strategy, has_stable=True)[stage]
    exposed_at = ago(1000) if at.is_exposed else None
    shares = {"percent": at.percent, "mirror_percent": at.mirror_percent, "exposed_at": exposed_at}
    return moving(strategy, stage=stage, staged_at=ago(for_s), **{**shares, **changes})


def look(active: Rollout, judgement: Judgement | None = None, state: ReplicaState = ReplicaState.READY) -> list[Action]:
    replicas = [replica(ReplicaState.READY, OLD.id), replica(state)]
    looks = {one.id: ANSWERS if one.state is ReplicaState.READY else RUNS for one in replicas}
    seen = Observations(replicas=looks, judgements={} if judgement is None else {active.id: judgement})
    return decide(record(*replicas, current=OLD, target=NEW, active=active), seen, NOW, POLICY)


def stage(active: Rollout, index: int, percent: int, mirror_percent: int = 0) -> list[Action]:
    return [StageRollout(active, index, percent, mirror_percent)]


def test_what_strategies_come_down_to() -> None:
    assert stages_of(ImmediateStrategy(), has_stable=True) == (Stage(),)
    assert stages_of(BlueGreenStrategy(pause=True), has_stable=True) == (Stage(pause=True),)
    assert [one.percent for one in stages_of(CANARY, has_stable=True)] == [10, 50, 100]
    assert stages_of(AbStrategy(percent=30, deadline_s=9), has_stable=True) == (
        Stage(percent=30, needs_verdict=True, timeout_s=9, on_inconclusive=OnInconclusive.ROLL_BACK),
    )
    assert stages_of(ShadowStrategy(percent=20), has_stable=True) == (
        Stage(mirror_percent=20, needs_verdict=True, pause=True, timeout_s=3600),
    )
    assert stages_of(CANARY, has_stable=False) == WITHOUT_STABLE


def test_the_bound_on_wrong_verdicts_is_of_the_whole_rollout() -> None:
    spec = AnalysisSpec(error_probability=0.06)
    canary = CanaryStrategy(analysis=spec)
    # The step at 100 percent too: it is left at once, unless somebody holds the rollout there.
    assert num_judged(moving(canary)) == 3
    assert num_judged(moving(canary, watch_s=300)) == 4
    analysis = analysis_of(moving(canary, watch_s=300))
    assert analysis is not None
    assert analysis.error_probability == pytest.approx(0.015)
    assert analysis.rules == spec.rules
    ab = analysis_of(moving(AbStrategy(analysis=spec)))
    assert ab is not None
    assert ab.error_probability == pytest.approx(0.06)
    assert analysis_of(moving(ImmediateStrategy())) is None
    assert analysis_of(rollout(strategy=canary)) is None


def test_no_share_before_every_replica_is_ready() -> None:
    for strategy in (CANARY, AbStrategy(), ShadowStrategy(), BlueGreenStrategy(pause=True)):
        assert look(moving(strategy), state=ReplicaState.STARTING) == []


def test_blue_green_moves_all_at_once() -> None:
    assert look(moving(BlueGreenStrategy())) == [PromoteRollout(moving(BlueGreenStrategy()))]


def test_blue_green_with_a_pause_waits_for_a_person() -> None:
    strategy = BlueGreenStrategy(pause=True)
    first = moving(strategy)
    assert look(first) == stage(first, 0, 0)
    (pause,) = look(staged(strategy))
    assert isinstance(pause, PauseRollout)
    assert pause.reason is RolloutReason.STEP
    assert look(staged(strategy, state=RolloutState.PAUSED)) == []
    resumed = staged(strategy, is_resumed=True)
    assert look(resumed) == [PromoteRollout(resumed)]


@pytest.mark.parametrize(
    ("state", "none_s", "goes_on"), [(ReplicaState.READY, 0, True), (ReplicaState.STARTING, 900, False), (ReplicaState.STARTING, 901, True)]
)
def test_a_share_waits_for_a_stable_release_that_was_asleep(state: ReplicaState, none_s: float, *, goes_on: bool) -> None:
    asleep = OLD.model_copy(update={"scaling": Scaling(min_replicas=0, max_replicas=1)})
    replicas = [replica(state, OLD.id), replica(ReplicaState.READY)]
    active = moving(CANARY)
    seen = Observations(
        replicas={replicas[1].id: ANSWERS, replicas[0].id: RUNS}, readiness={OLD.id: Readiness(none_s=none_s)}, num_wanted=1
    )
    state_now = record(*replicas, current=asleep, target=NEW, active=active, num_wanted=1)
    assert decide(state_now, seen, NOW, POLICY) == (stage(active, 0, 10) if goes_on else [])


def test_a_canary_takes_its_first_step_once_its_replicas_are_ready() -> None:
    first = moving(CANARY)
    assert look(first) == stage(first, 0, 10)


@pytest.mark.parametrize(
    ("for_s", "judgement", "goes_on"),
    [(29, PASS, False), (31, None, False), (31, INCONCLUSIVE, False), (30, PASS, True)],
)
def test_a_step_is_left_after_its_wait_with_a_pass(for_s: float, judgement: Judgement | None, *, goes_on: bool) -> None:
    active = staged(CANARY, for_s=for_s)
    assert look(active, judgement) == (stage(active, 1, 50) if goes_on else [])


def test_a_pass_does_not_lead_to_a_share_that_not_every_replica_could_take() -> None:
    active = staged(CANARY, for_s=31)
    assert look(active, PASS, state=ReplicaState.STARTING) == []


def test_a_step_that_pauses_does_so_after_its_pass_and_goes_on_when_resumed() -> None:
    assert look(staged(CANARY, stage=1, for_s=5), INCONCLUSIVE) == []
    (pause,) = look(staged(CANARY, stage=1, for_s=5), PASS)
    assert isinstance(pause, PauseRollout)
    resumed = staged(CANARY, stage=1, for_s=5, is_resumed=True)
    assert look(resumed, PASS) == stage(resumed, 2, 100)
    # A person who resumes has not said promote: without a pass it goes no further.
    assert look(resumed, INCONCLUSIVE) == []


def test_after_the_last_step_it_is_promoted() -> None:
    last = staged(CANARY, stage=2)
    assert look(last) == [PromoteRollout(last)]


@pytest.mark.parametrize("state", [RolloutState.PROGRESSING, RolloutState.PAUSED])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_failed_verdict_ends_it_at_every_step(state: RolloutState, index: int) -> None:
    (end,) = look(staged(CANARY, stage=index, state=state), FAIL)
    assert isinstance(end, EndRollout)
    assert (end.state, end.reason, end.job_reason) == (
        RolloutState.ROLLED_BACK,
        RolloutReason.VERDICT_FAILED,
        JobReason.VERDICT_FAILED,
    )
    assert "bard@rel_new was judged to be worse" in end.message
    assert "error_rate_compared: 38 of 74 requests" in end.message


@pytest.mark.parametrize("judgement", [None, INCONCLUSIVE])
def test_a_step_without_a_verdict_in_its_time_pauses_and_says_what_is_missing(judgement: Judgement | None) -> None:
    assert look(staged(CANARY, for_s=599), judgement) == []
    (pause,) = look(staged(CANARY, for_s=600), judgement)
    assert isinstance(pause, PauseRollout)
    assert pause.reason is RolloutReason.INCONCLUSIVE
    assert ("nothing was measured" if judgement is None else "38 of 74") in pause.message


def test_an_inconclusive_step_that_is_resumed_has_its_time_again() -> None:
    active = staged(CANARY, for_s=700, is_resumed=True)
    assert look(active, INCONCLUSIVE) == stage(active, 0, 10)


def test_an_inconclusive_step_is_rolled_back_where_that_is_wanted() -> None:
    strategy = CANARY.model_copy(update={"on_inconclusive": OnInconclusive.ROLL_BACK})
    (end,) = look(staged(strategy, for_s=600), INCONCLUSIVE)
    assert isinstance(end, EndRollout)
    assert (end.state, end.reason, end.job_reason) == (RolloutState.ROLLED_BACK, RolloutReason.INCONCLUSIVE, JobReason.TIMED_OUT)


def test_a_wait_that_is_longer_than_the_timeout_is_waited_out() -> None:
    strategy = CanaryStrategy(steps=[CanaryStep(percent=10, wait_s=900), CanaryStep(percent=100)], step_timeout_s=60)
    assert look(staged(strategy, for_s=899), INCONCLUSIVE) == []
    assert isinstance(look(staged(strategy, for_s=900), INCONCLUSIVE)[0], PauseRollout)


def test_a_step_without_analysis_is_left_after_its_wait() -> None:
    strategy = CanaryStrategy(steps=[CanaryStep(percent=10, wait_s=5, analysis=False), CanaryStep(percent=100)])
    assert look(staged(strategy, for_s=4)) == []
    active = staged(strategy, for_s=5)
    assert look(active, INCONCLUSIVE) == stage(active, 1, 100)


def test_an_ab_split_ends_with_its_verdict_or_its_deadline() -> None:
    strategy = AbStrategy(percent=40, deadline_s=100)
    first = moving(strategy)
    assert look(first) == stage(first, 0, 40)
    assert look(staged(strategy, for_s=99), INCONCLUSIVE) == []
    passed = staged(strategy, for_s=9)
    assert look(passed, PASS) == [PromoteRollout(passed)]
    for judgement, reason in ((FAIL, RolloutReason.VERDICT_FAILED), (INCONCLUSIVE, RolloutReason.INCONCLUSIVE)):
        (end,) = look(staged(strategy, for_s=100), judgement)
        assert isinstance(end, EndRollout)
        assert end.reason is reason


@pytest.mark.parametrize("on_pass", OnShadowPass)
def test_a_shadow_gets_no_share_and_ends_with_its_verdict(on_pass: OnShadowPass) -> None:
    strategy = ShadowStrategy(percent=25, deadline_s=100, on_pass=on_pass)
    first = moving(strategy)
    assert look(first) == stage(first, 0, 0, 25)
    active = staged(strategy, for_s=9)
    assert look(active, INCONCLUSIVE) == []
    (move,) = look(active, PASS)
    if on_pass is OnShadowPass.PROMOTE:
        assert move == PromoteRollout(active)
    else:
        assert isinstance(move, PauseRollout)
        resumed = staged(strategy, for_s=9, is_resumed=True)
        assert look(resumed, PASS) == [PromoteRollout(resumed)]
    (late,) = look(staged(strategy, for_s=100), INCONCLUSIVE)
    assert isinstance(late, PauseRollout)
    assert late.reason is RolloutReason.INCONCLUSIVE
    (end,) = look(active, FAIL)
    assert isinstance(end, EndRollout)
