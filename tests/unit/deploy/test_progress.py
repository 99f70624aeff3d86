"""The progress that a deploy job shows."""

from __future__ import annotations

from factories.rollout_records import record, release, replica, rollout
from quantry_core.jobs import Progress
from quantry_core.rollouts import ReplicaState, RolloutState
from quantry_deploy.observations import Observations, PullState, PullStatus
from quantry_deploy.progress import rollout_progress

NEW = release("rel_new", num_replicas=2)
ACTIVE = rollout()


def told(*states: ReplicaState, pull: PullStatus) -> Progress:
    moving = record(*(replica(state, ordinal=ordinal) for ordinal, state in enumerate(states)), target=NEW, active=ACTIVE)
    progress = rollout_progress(moving, ACTIVE, Observations(pulls={NEW.id: pull}))
    assert progress is not None
    return progress


def test_the_phases_and_their_shares() -> None:
    half, done = PullStatus(PullState.RUNNING, fraction=0.57), PullStatus(PullState.DONE, fraction=1.0)
    assert told(pull=half) == Progress(phase="pulling", fraction=0.1, detail="50% of the files")
    assert told(ReplicaState.PULLING, ReplicaState.PULLING, pull=done).fraction == 0.2
    starting = told(ReplicaState.READY, ReplicaState.STARTING, pull=done)
    assert (starting.phase, starting.detail) == ("starting", "1 of 2 replicas ready")
    assert starting.fraction == 0.6
    assert told(ReplicaState.READY, ReplicaState.READY, pull=done) == Progress(phase="ready", fraction=1.0, detail="2 of 2 replicas ready")


def test_why_the_files_do_not_come_is_told() -> None:
    assert told(pull=PullStatus(PullState.WAITING, message="the vault is away")).detail == "the vault is away"


def test_nothing_is_told_before_it_begins() -> None:
    pending = rollout(RolloutState.PENDING)
    assert rollout_progress(record(target=NEW, active=pending), pending, Observations()) is None
