"""The progress that a deploy job shows."""

from __future__ import annotations

from typing import Any

import pytest

from factories.rollout_records import ago, judged, record, release, replica, rollout
from quantry_core.jobs import Progress
from quantry_core.rollouts import ReplicaState, RolloutReason, RolloutState
from quantry_core.strategies import AbStrategy, BlueGreenStrategy, CanaryStrategy, ShadowStrategy, Strategy
from quantry_core.verdicts import Judgement, Verdict
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


def test_files_that_come_before_it_begins_are_told() -> None:
    pending = rollout(RolloutState.PENDING)
    seen = Observations(pulls={NEW.id: PullStatus(PullState.RUNNING, fraction=0.5)})
    assert rollout_progress(record(target=NEW, active=pending), pending, seen) == Progress(
        phase="pulling", fraction=0.1, detail="50% of the files"
    )


def staged(strategy: Strategy, judgement: Judgement | None = None, **changes: Any) -> Progress:
    values = {"strategy": strategy, "from_release_id": "rel_old", "staged_at": ago(5)}
    active = rollout(changes.pop("state", RolloutState.PROGRESSING), **{**values, **changes})
    seen = Observations(judgements={} if judgement is None else {active.id: judgement})
    progress = rollout_progress(record(target=NEW, active=active), active, seen)
    assert progress is not None
    return progress


def test_a_stage_is_told_with_its_share_and_its_verdict() -> None:
    told = staged(CanaryStrategy(), judged(Verdict.INCONCLUSIVE), percent=10)
    assert told == Progress(
        phase="canary", fraction=0.5, detail="canary 10%, analysis inconclusive: error_rate_compared: 38 of 74 requests"
    )
    assert staged(CanaryStrategy(), percent=50, stage=1).fraction == pytest.approx(0.667)
    assert staged(AbStrategy(), percent=30).detail == "A/B 30%"
    assert staged(ShadowStrategy(), mirror_percent=20).detail == "shadow of 20%"


def test_why_it_is_paused_is_told() -> None:
    paused = staged(BlueGreenStrategy(pause=True), state=RolloutState.PAUSED, reason=RolloutReason.STEP, message="stage 1 is done")
    assert paused.detail == "blue-green 0%, paused: stage 1 is done"
    assert staged(CanaryStrategy(), state=RolloutState.PAUSED, reason=RolloutReason.REQUESTED).detail.endswith("paused: requested")


def test_a_strategy_with_stages_is_half_way_when_its_replicas_are_ready() -> None:
    active = rollout(strategy=CanaryStrategy(), from_release_id="rel_old")
    both = [replica(ReplicaState.READY, ordinal=ordinal) for ordinal in (0, 1)]
    told = rollout_progress(record(*both, target=NEW, active=active), active, Observations())
    assert told == Progress(phase="ready", fraction=0.5, detail="2 of 2 replicas ready")


def test_a_long_reason_ends_with_a_whole_finding_or_a_whole_word() -> None:
    told = staged(CanaryStrategy(), judged(Verdict.INCONCLUSIVE, "many words " * 50), percent=10).detail
    assert told.endswith("many words …") or told.endswith("many …")
    assert 190 < len(told) <= 200
    told = staged(CanaryStrategy(), judged(Verdict.INCONCLUSIVE, "a " * 60 + "end; second: " + "word " * 40), percent=10).detail
    assert told.endswith("a end; …")
