"""How long replicas of a release have been missing."""

from __future__ import annotations

from datetime import timedelta

from factories.rollout_records import NOW, record, release, replica
from quantry_core.jobs import Scaling
from quantry_core.rollouts import ReplicaState
from quantry_deploy.observations import Readiness
from quantry_deploy.readiness import ReadinessMemory

TWO = release("rel_now", num_replicas=2)


def look(memory: ReadinessMemory, *states: ReplicaState, at_s: float) -> Readiness:
    replicas = [replica(state, "rel_now", ordinal=ordinal) for ordinal, state in enumerate(states)]
    return memory.look(record(*replicas, current=TWO), NOW + timedelta(seconds=at_s))["rel_now"]


def test_it_counts_from_when_one_and_when_all_were_last_ready() -> None:
    memory = ReadinessMemory()
    starting, ready = ReplicaState.STARTING, ReplicaState.READY
    assert look(memory, starting, starting, at_s=0) == Readiness(0, 0, was_ready=False)
    assert look(memory, starting, starting, at_s=5) == Readiness(5, 5, was_ready=False)
    assert look(memory, ready, starting, at_s=8) == Readiness(0, 8, was_ready=True)
    assert look(memory, ready, ready, at_s=9) == Readiness(0, 0, was_ready=True)
    assert look(memory, ready, at_s=11) == Readiness(0, 2, was_ready=True)
    assert look(memory, starting, ReplicaState.FAILED, at_s=14) == Readiness(3, 5, was_ready=True)


def test_a_release_that_should_have_none_begins_anew_afterwards() -> None:
    memory = ReadinessMemory()
    look(memory, ReplicaState.READY, ReplicaState.READY, at_s=0)
    zero = release("rel_now", num_replicas=2, scaling=Scaling(min_replicas=0, max_replicas=2))
    assert memory.look(record(current=zero, num_wanted=0), NOW + timedelta(seconds=50)) == {}
    assert look(memory, ReplicaState.STARTING, at_s=60) == Readiness(0, 0, was_ready=False)


def test_what_nobody_has_to_do_with_is_forgotten() -> None:
    memory = ReadinessMemory()
    look(memory, ReplicaState.READY, ReplicaState.READY, at_s=0)
    memory.keep_only([])
    assert look(memory, at_s=50) == Readiness(0, 0, was_ready=False)
