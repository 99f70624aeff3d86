"""When a rollout begins, goes on, is promoted, and is taken back."""

from __future__ import annotations

from datetime import timedelta
from itertools import product

import pytest

from factories.rollout_records import NOW, ago, record, release, replica, rollout
from quantry_core.jobs import REASONS, JobReason, JobStatus
from quantry_core.rollouts import ReplicaState, RolloutState, check_rollout_transition
from quantry_deploy.actions import Action, AddReplica, BeginRollout, EndRollout, PromoteRollout, PullFiles, SetReplica
from quantry_deploy.decide import decide, wanted_releases
from quantry_deploy.observations import Observations, PullState, PullStatus, ReplicaObservation
from quantry_deploy.policy import Policy
from quantry_store.transactions.rollouts import DeploymentRecord

POLICY = Policy(resumed_at=ago(5000))
OLD = release("rel_old")
NEW = release("rel_new", num_replicas=2)
ANSWERS = ReplicaObservation(is_running=True, answers=True, is_proven=True)
GONE = ReplicaObservation(is_running=False)
PULLED = PullStatus(PullState.DONE, fraction=1.0)


def look(moving: DeploymentRecord, pull: PullStatus = PULLED, seen: ReplicaObservation = ANSWERS, policy: Policy = POLICY) -> list[Action]:
    replicas = {one.id: seen for one in moving.deployment.replicas}
    return decide(moving, Observations(replicas=replicas, pulls={NEW.id: pull}), NOW, policy)


def test_a_pending_rollout_begins_before_anything_is_started() -> None:
    moving = record(target=NEW, active=rollout(RolloutState.PENDING))
    assert look(moving, PullStatus(PullState.ABSENT)) == [BeginRollout("rol_1")]
    assert wanted_releases(moving) == []


def test_a_progressing_rollout_keeps_the_old_release_and_brings_up_the_new_one() -> None:
    old = replica(ReplicaState.READY, OLD.id)
    moving = record(old, current=OLD, target=NEW, active=rollout(from_release_id=OLD.id))
    assert wanted_releases(moving) == [OLD, NEW]
    assert look(moving, PullStatus(PullState.ABSENT)) == [PullFiles(NEW), AddReplica(NEW, 0), AddReplica(NEW, 1)]


def test_it_is_promoted_when_every_new_replica_is_ready_and_not_before() -> None:
    replicas = [replica(ReplicaState.READY, ordinal=0), replica(ReplicaState.STARTING, ordinal=1)]
    moving = record(*replicas, target=NEW, active=rollout())
    assert look(moving) == [SetReplica(replicas[1], ReplicaState.READY)]
    both = record(replicas[0], replica(ReplicaState.READY, ordinal=1), target=NEW, active=rollout())
    assert look(both) == [PromoteRollout("rol_1")]


def test_ready_by_the_record_is_not_enough_when_the_process_is_gone() -> None:
    both = record(*(replica(ReplicaState.READY, ordinal=ordinal) for ordinal in (0, 1)), target=NEW, active=rollout())
    assert PromoteRollout("rol_1") not in look(both, seen=GONE)


def test_a_paused_rollout_is_not_promoted() -> None:
    both = record(*(replica(ReplicaState.READY, ordinal=ordinal) for ordinal in (0, 1)), target=NEW, active=rollout(RolloutState.PAUSED))
    assert look(both) == []


def test_after_the_promotion_only_the_old_release_winds_down() -> None:
    old = replica(ReplicaState.READY, OLD.id)
    new = [replica(ReplicaState.READY, ordinal=ordinal) for ordinal in (0, 1)]
    after = record(old, *new, current=NEW, target=OLD)
    assert look(after) == [SetReplica(old, ReplicaState.STOPPING, "draining")]


def test_files_that_are_refused_roll_it_back_with_their_reason() -> None:
    moving = record(replica(ReplicaState.PULLING), target=NEW, active=rollout())
    refused = PullStatus(PullState.REFUSED, reason=JobReason.INVALID_INPUT, message="2-bit weights")
    (action,) = look(moving, refused)
    assert isinstance(action, EndRollout)
    assert (action.state, action.reason) == (RolloutState.ROLLED_BACK, JobReason.INVALID_INPUT)
    assert "2-bit weights" in action.message


@pytest.mark.parametrize(("num_restarts", "ends"), [(0, False), (2, False), (3, True), (7, True)])
def test_a_crash_loop_rolls_it_back_after_three_restarts(num_restarts: int, ends: bool) -> None:
    crashed = replica(ReplicaState.FAILED, num_restarts=num_restarts)
    actions = look(record(crashed, replica(ReplicaState.READY, ordinal=1), target=NEW, active=rollout()), seen=GONE)
    endings = [action for action in actions if isinstance(action, EndRollout)]
    assert bool(endings) is ends
    for ending in endings:
        assert (ending.reason, ending.witness) == (JobReason.INTERNAL, crashed)
        assert f"ended {num_restarts + 1} times" in ending.message


def test_a_crash_loop_of_the_old_release_is_no_verdict_on_the_new_one() -> None:
    old = replica(ReplicaState.FAILED, OLD.id, num_restarts=9)
    moving = record(old, current=OLD, target=NEW, active=rollout(from_release_id=OLD.id))
    assert not any(isinstance(action, EndRollout) for action in look(moving))


def test_past_its_deadline_it_is_rolled_back_with_the_replica_that_was_missing() -> None:
    starting = replica(ReplicaState.STARTING, ordinal=1)
    late = rollout(ready_deadline_at=ago(1), created_at=ago(601))
    (action,) = look(record(replica(ReplicaState.READY), starting, target=NEW, active=late), seen=ReplicaObservation(is_running=True))
    assert isinstance(action, EndRollout)
    assert (action.state, action.reason, action.witness) == (RolloutState.ROLLED_BACK, JobReason.TIMED_OUT, starting)
    assert "1 of 2 replicas" in action.message


def test_ready_at_the_last_moment_is_ready() -> None:
    late = rollout(ready_deadline_at=ago(1), created_at=ago(601))
    both = record(*(replica(ReplicaState.READY, ordinal=ordinal) for ordinal in (0, 1)), target=NEW, active=late)
    assert look(both) == [PromoteRollout("rol_1")]


def test_a_rollout_from_before_this_controller_gets_its_whole_time_again() -> None:
    late = rollout(ready_deadline_at=ago(1000), created_at=ago(1600))
    moving = record(replica(ReplicaState.STARTING), target=NEW, active=late)
    starting = ReplicaObservation(is_running=True)
    resumed = Policy(resumed_at=ago(599))
    assert not any(isinstance(action, EndRollout) for action in look(moving, seen=starting, policy=resumed))
    (action,) = look(moving, seen=starting, policy=Policy(resumed_at=ago(601)))
    assert isinstance(action, EndRollout)
    assert resumed.deadline(rollout()) == NOW + timedelta(seconds=100)


@pytest.mark.parametrize("state", [RolloutState.PENDING, RolloutState.PROGRESSING, RolloutState.PAUSED])
@pytest.mark.parametrize("how", ["cancelled", "stopped"])
def test_a_cancel_or_a_stop_aborts_it_wherever_it_is(state: RolloutState, how: str) -> None:
    moving = record(target=NEW, active=rollout(state), cancel_requested=how == "cancelled", is_stopped=how == "stopped")
    (action,) = look(moving)
    assert isinstance(action, EndRollout)
    assert (action.state, action.reason) == (RolloutState.ABORTED, JobReason.CANCELLED)


def test_every_move_is_a_legal_one_and_comes_alone() -> None:
    num_moves = 0
    for state, pull, is_late, num_restarts, replica_state, cancel_requested in product(
        (RolloutState.PENDING, RolloutState.PROGRESSING, RolloutState.PAUSED), PullState, (True, False), (0, 3), ReplicaState, (True, False)
    ):
        active = rollout(state, ready_deadline_at=ago(1) if is_late else NOW + timedelta(seconds=60), created_at=ago(601))
        replicas = [replica(replica_state, ordinal=ordinal, num_restarts=num_restarts) for ordinal in (0, 1)]
        actions = look(record(*replicas, target=NEW, active=active, cancel_requested=cancel_requested), PullStatus(pull))
        moves = [action for action in actions if isinstance(action, BeginRollout | PromoteRollout | EndRollout)]
        assert not moves or len(actions) == 1
        num_moves += len(moves)
        for move in moves:
            assert_legal(state, move)
    assert num_moves > 100


def assert_legal(state: RolloutState, move: BeginRollout | PromoteRollout | EndRollout) -> None:
    match move:
        case BeginRollout():
            check_rollout_transition(state, RolloutState.PROGRESSING)
        case PromoteRollout():
            check_rollout_transition(state, RolloutState.PROMOTED)
        case EndRollout():
            check_rollout_transition(state, move.state)
            ended = JobStatus.CANCELLED if move.state is RolloutState.ABORTED else JobStatus.FAILED
            assert REASONS[move.reason].final_status is ended
