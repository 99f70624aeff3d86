"""What is done about a replica, in every state it can be in, wanted or not."""

from __future__ import annotations

from itertools import product

import pytest

from factories.rollout_records import NOW, ago, record, release, replica, rollout
from quantry_core.rollouts import Replica, ReplicaState, RolloutState
from quantry_deploy.actions import (
    Action,
    AddReplica,
    FailReplica,
    KillReplica,
    PullFiles,
    RemoveReplica,
    SetReplica,
    StartReplica,
    TerminateReplica,
)
from quantry_deploy.decide import decide
from quantry_deploy.observations import Observations, PullState, PullStatus, ReplicaObservation
from quantry_deploy.policy import Policy
from quantry_deploy.wanted import Wanted, kept_releases, needs_files, wanted_releases

POLICY = Policy(resumed_at=ago(5000), drain_s=5, stop_grace_s=10, unhealthy_after_s=10, restart_after_s=60, start_timeout_s=900)
RELEASE = release("rel_now")
GONE = ReplicaObservation(is_running=False, ending="ended with exit status 3")
RUNS = ReplicaObservation(is_running=True)
ANSWERS = ReplicaObservation(is_running=True, answers=True, is_proven=True)
PULLED = PullStatus(PullState.DONE, fraction=1.0)


def wanted(one: Replica, seen: ReplicaObservation, pull: PullStatus = PULLED) -> list[Action]:
    """Returns what is done about the one replica of the release that is served."""
    observations = Observations(replicas={one.id: seen}, pulls={RELEASE.id: pull})
    return decide(record(one, current=RELEASE), observations, NOW, POLICY)


def unwanted(one: Replica, seen: ReplicaObservation) -> list[Action]:
    """Returns what is done about a replica of a stopped deployment."""
    return decide(record(one, current=RELEASE, is_stopped=True), Observations(replicas={one.id: seen}), NOW, POLICY)


def own(state: ReplicaState, age_s: float = 0.0, num_restarts: int = 0, message: str | None = None) -> Replica:
    return replica(state, RELEASE.id, age_s=age_s, num_restarts=num_restarts, message=message)


def test_a_served_release_without_replicas_is_pulled_and_gets_them() -> None:
    served = release("rel_now", num_replicas=2)
    actions = decide(record(current=served), Observations(), NOW, POLICY)
    assert actions == [PullFiles(served), AddReplica(served, 0), AddReplica(served, 1)]


@pytest.mark.parametrize("state", [PullState.RUNNING, PullState.WAITING, PullState.REFUSED])
def test_files_that_are_under_way_are_waited_for(state: PullState) -> None:
    assert wanted(own(ReplicaState.PULLING), GONE, PullStatus(state)) == []


def test_why_files_do_not_come_is_written_once() -> None:
    pull = PullStatus(PullState.WAITING, message="the vault is away")
    one = own(ReplicaState.PULLING)
    assert wanted(one, GONE, pull) == [SetReplica(one, ReplicaState.PULLING, "the vault is away")]
    assert wanted(own(ReplicaState.PULLING, message="the vault is away"), GONE, pull) == []


@pytest.mark.parametrize("state", [ReplicaState.PULLING, ReplicaState.STOPPED])
def test_with_its_files_here_a_replica_is_started(state: ReplicaState) -> None:
    one = own(state)
    assert wanted(one, GONE) == [StartReplica(one, RELEASE, num_restarts=0)]


def test_a_stopped_replica_whose_files_are_gone_pulls_again() -> None:
    one = own(ReplicaState.STOPPED)
    pull = PullStatus(PullState.ABSENT)
    assert wanted(one, GONE, pull) == [PullFiles(RELEASE), SetReplica(one, ReplicaState.PULLING)]


def test_a_starting_replica_is_ready_only_when_it_is_proven() -> None:
    one = own(ReplicaState.STARTING)
    assert wanted(one, RUNS) == []
    assert wanted(one, ReplicaObservation(is_running=True, answers=True, doubt="it serves another model")) == []
    assert wanted(one, ANSWERS) == [SetReplica(one, ReplicaState.READY)]


def test_a_starting_replica_that_ends_has_failed() -> None:
    one = own(ReplicaState.STARTING, num_restarts=2)
    assert wanted(one, GONE) == [FailReplica(one, "the engine ended with exit status 3 before it was ready", 2)]


def test_a_start_that_takes_too_long_has_failed_with_its_doubt() -> None:
    doubtful = ReplicaObservation(is_running=True, answers=True, doubt="it serves another model")
    assert wanted(own(ReplicaState.STARTING, age_s=899), doubtful) == []
    one = own(ReplicaState.STARTING, age_s=901)
    assert wanted(one, doubtful) == [FailReplica(one, "the engine was not ready after 900 s: it serves another model", 0)]
    assert wanted(one, RUNS) == [FailReplica(one, "the engine was not ready after 900 s", 0)]


def test_a_ready_replica_that_answers_is_left_alone() -> None:
    assert wanted(own(ReplicaState.READY), ANSWERS) == []
    assert wanted(own(ReplicaState.READY), ReplicaObservation(is_running=True, silent_s=10.0)) == []


def test_a_silent_replica_is_unhealthy_then_ready_again_or_given_up() -> None:
    one = own(ReplicaState.READY)
    assert wanted(one, ReplicaObservation(is_running=True, silent_s=11)) == [SetReplica(one, ReplicaState.UNHEALTHY, "no answer for 11 s")]
    one = own(ReplicaState.UNHEALTHY, num_restarts=1)
    assert wanted(one, ReplicaObservation(is_running=True, silent_s=60)) == []
    assert wanted(one, ANSWERS) == [SetReplica(one, ReplicaState.READY)]
    assert wanted(one, ReplicaObservation(is_running=True, silent_s=61)) == [FailReplica(one, "no answer for 61 s", 1)]
    assert wanted(one, GONE) == [FailReplica(one, "the engine ended with exit status 3", 1)]


def test_restarts_are_counted_from_zero_after_a_good_run() -> None:
    for age_s, counted in ((599, 4), (601, 0)):
        one = own(ReplicaState.READY, age_s=age_s, num_restarts=4)
        assert wanted(one, GONE) == [FailReplica(one, "the engine ended with exit status 3", counted)]


@pytest.mark.parametrize(("num_restarts", "backoff_s"), [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (500, 60)])
def test_a_failed_replica_waits_twice_as_long_each_time(num_restarts: int, backoff_s: float) -> None:
    assert wanted(own(ReplicaState.FAILED, age_s=backoff_s - 0.1, num_restarts=num_restarts), GONE) == []
    one = own(ReplicaState.FAILED, age_s=backoff_s + 0.1, num_restarts=num_restarts)
    assert wanted(one, GONE) == [StartReplica(one, RELEASE, num_restarts=num_restarts + 1)]


def test_a_failed_replica_is_not_started_beside_what_is_left_of_it() -> None:
    one = own(ReplicaState.FAILED, age_s=100)
    assert wanted(one, RUNS) == [KillReplica(one)]


def test_a_failed_replica_whose_files_are_gone_pulls_first() -> None:
    one = own(ReplicaState.FAILED, age_s=100)
    assert wanted(one, GONE, PullStatus(PullState.ABSENT)) == [PullFiles(RELEASE)]
    assert wanted(one, GONE, PullStatus(PullState.RUNNING)) == []


def test_a_stopping_replica_that_is_wanted_again_ends_first() -> None:
    one = own(ReplicaState.STOPPING, age_s=1)
    assert wanted(one, RUNS) == []
    assert wanted(one, GONE) == [RemoveReplica(one)]


def test_an_unwanted_ready_replica_drains_before_it_is_asked_to_end() -> None:
    one = own(ReplicaState.READY)
    assert unwanted(one, ANSWERS) == [SetReplica(one, ReplicaState.STOPPING, "draining")]
    for age_s, actions in ((4.9, []), (5.1, [TerminateReplica]), (14.9, [TerminateReplica]), (15.1, [KillReplica])):
        stopping = own(ReplicaState.STOPPING, age_s=age_s)
        assert [type(action) for action in unwanted(stopping, ANSWERS)] == actions


@pytest.mark.parametrize("state", [ReplicaState.STARTING, ReplicaState.UNHEALTHY, ReplicaState.FAILED])
def test_an_unwanted_replica_without_traffic_is_asked_to_end_at_once(state: ReplicaState) -> None:
    one = own(state)
    assert unwanted(one, RUNS) == [SetReplica(one, ReplicaState.STOPPING, "stopping"), TerminateReplica(one)]


@pytest.mark.parametrize("state", list(ReplicaState))
def test_an_unwanted_replica_without_a_process_is_forgotten(state: ReplicaState) -> None:
    one = own(state)
    assert unwanted(one, GONE) == [RemoveReplica(one)]


def test_a_wanted_replica_is_never_forgotten_while_it_runs_nor_started_twice() -> None:
    num_starts = 0
    for state, seen, pull, age_s in product(ReplicaState, (GONE, RUNS, ANSWERS), PullState, (0.0, 7.0, 20.0, 1000.0)):
        kinds = {type(action) for action in wanted(own(state, age_s=age_s), seen, PullStatus(pull))}
        assert not (seen.is_running and RemoveReplica in kinds)
        if StartReplica in kinds:
            num_starts += 1
            assert pull is PullState.DONE
            assert state in {ReplicaState.PULLING, ReplicaState.STOPPED, ReplicaState.FAILED}
    assert num_starts > 0


def test_replicas_past_the_releases_number_and_doubles_are_wound_down() -> None:
    kept = replica(ReplicaState.READY, RELEASE.id, id="rep_kept")
    surplus = [replica(ReplicaState.READY, RELEASE.id, id="rep_1", ordinal=1), replica(ReplicaState.READY, RELEASE.id, id="rep_2")]
    seen = Observations(replicas={one.id: ANSWERS for one in (kept, *surplus)})
    actions = decide(record(kept, *surplus, current=RELEASE), seen, NOW, POLICY)
    assert actions == [SetReplica(one, ReplicaState.STOPPING, "draining") for one in surplus]


def test_a_stopped_deployment_wants_nothing() -> None:
    assert wanted_releases(record(current=RELEASE, is_stopped=True)) == []
    assert wanted_releases(record(current=RELEASE)) == [RELEASE]


def test_files_are_needed_while_a_replica_has_yet_to_start() -> None:
    wanted = Wanted(RELEASE, frozenset({0}))
    assert needs_files(record(current=RELEASE), wanted)
    assert needs_files(record(own(ReplicaState.FAILED), current=RELEASE), wanted)
    assert not needs_files(record(own(ReplicaState.READY), current=RELEASE), wanted)


def test_files_stay_while_anybody_wants_them_or_still_runs_on_them() -> None:
    target = release("rel_new")
    pending = record(current=RELEASE, target=target, active=rollout(RolloutState.PENDING))
    assert kept_releases(pending) == [RELEASE, target]
    assert kept_releases(record(current=RELEASE)) == [RELEASE]
    assert kept_releases(record(current=RELEASE, is_stopped=True)) == []
    assert kept_releases(record(own(ReplicaState.STOPPING), current=RELEASE, is_stopped=True)) == [RELEASE]
