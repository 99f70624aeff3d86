"""When a rollout begins, is promoted, and is taken back, whatever its strategy."""

from __future__ import annotations

from datetime import timedelta
from itertools import product
from typing import Any

import pytest

from factories.rollout_records import NOW, ago, judged, record, release, replica, rollout
from quantry_core.jobs import REASONS, JobReason, JobStatus
from quantry_core.rollouts import ReplicaState, Rollout, RolloutReason, RolloutState, check_rollout_transition
from quantry_core.strategies import AbStrategy, BlueGreenStrategy, CanaryStrategy, ImmediateStrategy, ShadowStrategy, Strategy
from quantry_core.verdicts import Judgement, Verdict
from quantry_deploy.actions import (
    Action,
    AddReplica,
    BeginRollout,
    EndRollout,
    PauseRollout,
    PromoteRollout,
    PullFiles,
    RolloutMove,
    SetReplica,
    StageRollout,
)
from quantry_deploy.decide import decide
from quantry_deploy.observations import Observations, PullState, PullStatus, Readiness, ReplicaObservation
from quantry_deploy.policy import Policy
from quantry_deploy.wanted import wanted_releases
from quantry_store.transactions.rollouts import DeploymentRecord

POLICY = Policy(resumed_at=ago(5000))
OLD = release("rel_old")
NEW = release("rel_new", num_replicas=2)
ANSWERS = ReplicaObservation(is_running=True, answers=True, is_proven=True)
GONE = ReplicaObservation(is_running=False)
PULLED = PullStatus(PullState.DONE, fraction=1.0)
ABSENT = PullStatus(PullState.ABSENT)
BOTH = [replica(ReplicaState.READY, ordinal=ordinal) for ordinal in (0, 1)]
STRATEGIES: list[Strategy] = [ImmediateStrategy(), BlueGreenStrategy(), CanaryStrategy(), AbStrategy(), ShadowStrategy()]


def look(
    moving: DeploymentRecord,
    pull: PullStatus = PULLED,
    seen: ReplicaObservation = ANSWERS,
    readiness: Readiness | None = None,
    judgement: Judgement | None = None,
) -> list[Action]:
    replicas = {one.id: seen for one in moving.deployment.replicas}
    observations = Observations(
        replicas=replicas,
        pulls={NEW.id: pull},
        readiness={} if readiness is None else {NEW.id: readiness},
        judgements={} if judgement is None else {"rol_1": judgement},
    )
    return decide(moving, observations, NOW, POLICY)


def ending(actions: list[Action]) -> EndRollout:
    (action,) = actions
    assert isinstance(action, EndRollout)
    return action


def test_the_files_of_a_pending_rollout_come_before_it_begins() -> None:
    active = rollout(RolloutState.PENDING)
    moving = record(target=NEW, active=active)
    assert look(moving, ABSENT) == [PullFiles(NEW)]
    assert look(moving, PullStatus(PullState.RUNNING)) == []
    assert look(moving, PULLED) == [BeginRollout(active)]
    assert wanted_releases(moving) == []


@pytest.mark.parametrize("state", [PullState.WAITING, PullState.REFUSED])
def test_a_rollout_whose_files_do_not_come_begins_so_that_it_can_end(state: PullState) -> None:
    active = rollout(RolloutState.PENDING)
    assert look(record(target=NEW, active=active), PullStatus(state)) == [BeginRollout(active)]


def test_a_pull_that_takes_too_long_does_not_keep_a_rollout_from_its_deadline() -> None:
    active = rollout(RolloutState.PENDING, created_at=ago(601), ready_deadline_at=ago(1))
    assert look(record(target=NEW, active=active), PullStatus(PullState.RUNNING)) == [BeginRollout(active)]


def test_a_progressing_rollout_keeps_the_old_release_and_brings_up_the_new_one() -> None:
    old = replica(ReplicaState.READY, OLD.id)
    moving = record(old, current=OLD, target=NEW, active=rollout(from_release_id=OLD.id))
    assert wanted_releases(moving) == [OLD, NEW]
    assert look(moving, ABSENT) == [PullFiles(NEW), AddReplica(NEW, 0), AddReplica(NEW, 1)]


def test_it_is_promoted_when_every_new_replica_is_ready_and_not_before() -> None:
    replicas = [replica(ReplicaState.READY, ordinal=0), replica(ReplicaState.STARTING, ordinal=1)]
    moving = record(*replicas, target=NEW, active=rollout())
    assert look(moving) == [SetReplica(replicas[1], ReplicaState.READY)]
    assert look(record(*BOTH, target=NEW, active=rollout())) == [PromoteRollout(rollout())]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_first_release_is_promoted_once_it_is_ready_as_there_is_nothing_to_compare_with(strategy: Strategy) -> None:
    active = rollout(strategy=strategy)
    assert look(record(*BOTH, target=NEW, active=active)) == [PromoteRollout(active)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_moves_while_a_process_is_gone_though_the_record_says_ready(strategy: Strategy) -> None:
    active = rollout(strategy=strategy, from_release_id=OLD.id)
    moving = record(*BOTH, replica(ReplicaState.READY, OLD.id), current=OLD, target=NEW, active=active)
    assert not any(isinstance(action, PromoteRollout | StageRollout) for action in look(moving, seen=GONE))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_person_who_says_promote_skips_what_is_left_once_all_are_ready(strategy: Strategy) -> None:
    active = rollout(strategy=strategy, from_release_id=OLD.id, promote_requested=True)
    moving = record(*BOTH, current=OLD, target=NEW, active=active)
    assert look(moving) == [PromoteRollout(active)]
    # They have seen the verdict, and believe otherwise.
    assert look(moving, judgement=judged(Verdict.FAIL)) == [PromoteRollout(active)]
    assert not any(isinstance(one, PromoteRollout) for one in look(record(BOTH[0], current=OLD, target=NEW, active=active)))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_paused_rollout_stays_where_it_is(strategy: Strategy) -> None:
    active = rollout(RolloutState.PAUSED, strategy=strategy, from_release_id=OLD.id, ready_deadline_at=ago(1))
    old = replica(ReplicaState.READY, OLD.id)
    assert look(record(old, *BOTH, current=OLD, target=NEW, active=active), judgement=judged(Verdict.PASS)) == []


def test_after_the_promotion_only_the_old_release_winds_down() -> None:
    old = replica(ReplicaState.READY, OLD.id)
    after = record(old, *BOTH, current=NEW, target=OLD)
    assert look(after) == [SetReplica(old, ReplicaState.STOPPING, "draining")]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_files_that_are_refused_roll_it_back_with_their_reason(strategy: Strategy) -> None:
    moving = record(replica(ReplicaState.PULLING), target=NEW, active=rollout(strategy=strategy))
    refused = PullStatus(PullState.REFUSED, reason=JobReason.INVALID_INPUT, message="2-bit weights")
    end = ending(look(moving, refused))
    assert (end.state, end.reason, end.job_reason) == (RolloutState.ROLLED_BACK, RolloutReason.NOT_SERVABLE, JobReason.INVALID_INPUT)
    assert "2-bit weights" in end.message


@pytest.mark.parametrize("state", [RolloutState.PROGRESSING, RolloutState.PAUSED])
@pytest.mark.parametrize(("num_restarts", "ends"), [(0, False), (2, False), (3, True), (7, True)])
def test_a_crash_loop_rolls_it_back_after_three_restarts(state: RolloutState, num_restarts: int, *, ends: bool) -> None:
    crashed = replica(ReplicaState.FAILED, num_restarts=num_restarts)
    active = rollout(state, strategy=CanaryStrategy(), from_release_id=OLD.id, staged_at=ago(5), exposed_at=ago(5), percent=10)
    actions = look(record(crashed, BOTH[1], current=OLD, target=NEW, active=active), seen=GONE)
    endings = [action for action in actions if isinstance(action, EndRollout)]
    assert bool(endings) is ends
    for end in endings:
        assert (end.reason, end.job_reason, end.witness) == (RolloutReason.CRASH_LOOP, JobReason.INTERNAL, crashed)
        assert f"ended {num_restarts + 1} times" in end.message


def test_a_crash_loop_of_the_old_release_is_no_verdict_on_the_new_one() -> None:
    old = replica(ReplicaState.FAILED, OLD.id, num_restarts=9)
    moving = record(old, current=OLD, target=NEW, active=rollout(from_release_id=OLD.id))
    assert not any(isinstance(action, EndRollout) for action in look(moving))


def test_past_its_deadline_it_is_rolled_back_with_the_replica_that_was_missing() -> None:
    starting = replica(ReplicaState.STARTING, ordinal=1)
    late = rollout(ready_deadline_at=ago(1), created_at=ago(601))
    end = ending(look(record(BOTH[0], starting, target=NEW, active=late), seen=ReplicaObservation(is_running=True)))
    assert (end.state, end.reason, end.job_reason) == (RolloutState.ROLLED_BACK, RolloutReason.NOT_READY, JobReason.TIMED_OUT)
    assert end.witness == starting
    assert "1 of 2 replicas" in end.message


def test_why_the_files_did_not_come_is_told_when_time_is_up() -> None:
    late = rollout(ready_deadline_at=ago(1), created_at=ago(601))
    end = ending(
        look(record(replica(ReplicaState.PULLING), target=NEW, active=late), PullStatus(PullState.WAITING, message="the vault is away"))
    )
    assert "the vault is away" in end.message


@pytest.mark.parametrize(
    ("readiness", "ends"),
    [
        (Readiness(none_s=29, some_missing_s=29, was_ready=True), False),
        (Readiness(none_s=31, some_missing_s=31, was_ready=True), True),
        # One that this controller never saw ready may just have been adopted: it has the time that it had at first.
        (Readiness(none_s=31, some_missing_s=31), False),
        (Readiness(none_s=111, some_missing_s=111), True),
        (Readiness(none_s=0, some_missing_s=109, was_ready=True), False),
        (Readiness(none_s=0, some_missing_s=111, was_ready=True), True),
    ],
)
def test_a_candidate_that_had_traffic_and_is_lost_is_rolled_back(readiness: Readiness, *, ends: bool) -> None:
    active = rollout(strategy=CanaryStrategy(), from_release_id=OLD.id, staged_at=ago(50), exposed_at=ago(50), percent=10)
    moving = record(BOTH[0], replica(ReplicaState.STARTING, ordinal=1), current=OLD, target=NEW, active=active)
    actions = look(moving, seen=ReplicaObservation(is_running=True), readiness=readiness)
    endings = [action for action in actions if isinstance(action, EndRollout)]
    assert bool(endings) is ends
    for end in endings:
        assert end.reason is RolloutReason.NOT_READY
        assert "1 of 2 replicas of bard@rel_new stayed ready" in end.message


def test_a_deadline_begins_again_with_a_controller_that_was_away() -> None:
    late = rollout(ready_deadline_at=ago(300), created_at=ago(900))
    moving = record(replica(ReplicaState.STARTING), target=NEW, active=late)
    observations = Observations(replicas={"rep_rel_new_0": ReplicaObservation(is_running=True)}, pulls={NEW.id: PULLED})
    resumed = Policy(resumed_at=ago(10))
    assert not any(isinstance(action, EndRollout) for action in decide(moving, observations, NOW, resumed))
    assert any(isinstance(action, EndRollout) for action in decide(moving, observations, NOW, Policy(resumed_at=ago(601))))


@pytest.mark.parametrize("state", [RolloutState.PENDING, RolloutState.PROGRESSING, RolloutState.PAUSED])
@pytest.mark.parametrize("how", ["cancelled", "stopped"])
def test_a_cancel_or_a_stop_aborts_it_wherever_it_is(state: RolloutState, how: str) -> None:
    moving = record(target=NEW, active=rollout(state), cancel_requested=how == "cancelled", is_stopped=how == "stopped")
    end = ending(look(moving))
    assert (end.state, end.job_reason) == (RolloutState.ABORTED, JobReason.CANCELLED)
    assert end.reason is (RolloutReason.CANCELLED if how == "cancelled" else RolloutReason.STOPPED)


def test_every_move_is_a_legal_one_and_comes_alone() -> None:
    num_moves = 0
    states = (RolloutState.PENDING, RolloutState.PROGRESSING, RolloutState.PAUSED)
    stages: tuple[dict[str, Any], ...] = (
        {},
        {"staged_at": ago(9), "exposed_at": ago(9), "percent": 10},
        {"staged_at": ago(9000), "exposed_at": ago(9000), "stage": 2},
    )
    for state, pull, is_late, num_restarts, replica_state, cancels, strategy, staged, verdict in product(
        states, PullState, (True, False), (0, 3), ReplicaState, (True, False), STRATEGIES, stages, (None, *Verdict)
    ):
        deadline_at = ago(1) if is_late else NOW + timedelta(seconds=60)
        active = rollout(state, ready_deadline_at=deadline_at, created_at=ago(601), strategy=strategy, from_release_id=OLD.id, **staged)
        replicas = [replica(replica_state, ordinal=ordinal, num_restarts=num_restarts) for ordinal in (0, 1)]
        moving = record(*replicas, current=OLD, target=NEW, active=active, cancel_requested=cancels)
        actions = look(moving, PullStatus(pull), judgement=None if verdict is None else judged(verdict))
        moves = [action for action in actions if isinstance(action, RolloutMove)]
        assert not moves or len(actions) == 1
        num_moves += len(moves)
        for move in moves:
            assert_legal(active, move)
    assert num_moves > 1000


def assert_legal(seen: Rollout, move: RolloutMove) -> None:
    match move:
        case BeginRollout():
            check_rollout_transition(seen.state, RolloutState.PROGRESSING)
        case StageRollout():
            assert seen.state is RolloutState.PROGRESSING
        case PauseRollout():
            check_rollout_transition(seen.state, RolloutState.PAUSED)
        case PromoteRollout():
            check_rollout_transition(seen.state, RolloutState.PROMOTED)
        case EndRollout():
            check_rollout_transition(seen.state, move.state)
            ended = JobStatus.CANCELLED if move.state is RolloutState.ABORTED else JobStatus.FAILED
            assert REASONS[move.job_reason].final_status is ended
        case _:
            pytest.fail(f"{move} is not of an active rollout")
