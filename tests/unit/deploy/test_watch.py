"""The time after a promotion: what keeps the release before warm, what brings it back, and what ends the watch."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from factories.rollout_records import NOW, ago, judged, record, release, replica, rollout
from quantry_core.jobs import Scaling
from quantry_core.rollouts import Replica, ReplicaState, Rollout, RolloutReason, RolloutState
from quantry_core.strategies import CanaryStrategy
from quantry_core.verdicts import Judgement, Verdict
from quantry_deploy.actions import Action, BeginRollout, EndWatch, SetReplica, UndoPromotion
from quantry_deploy.decide import decide
from quantry_deploy.observations import Observations, PullState, PullStatus, Readiness, ReplicaObservation
from quantry_deploy.policy import Policy
from quantry_deploy.wanted import kept_releases, wanted_replicas
from quantry_store.transactions.rollouts import DeploymentRecord

POLICY = Policy(resumed_at=ago(5000))
BEFORE, CURRENT = release("rel_old", num_replicas=2), release("rel_new")
ANSWERS = ReplicaObservation(is_running=True, answers=True, is_proven=True)
WARM = [replica(ReplicaState.READY, "rel_old", ordinal=ordinal) for ordinal in (0, 1)]
SERVING = replica(ReplicaState.READY)
LOST = Readiness(none_s=31, some_missing_s=31, was_ready=True)


def watched(**changes: Any) -> Rollout:
    values: dict[str, Any] = {
        "from_release_id": "rel_old",
        "strategy": CanaryStrategy(),
        "watch_s": 300,
        "watch_until": NOW + timedelta(seconds=60),
        "finished_at": ago(240),
        "exposed_at": ago(400),
    }
    return rollout(RolloutState.PROMOTED, **{**values, **changes})


def after(*replicas: Replica, one: Rollout | None = None, active: Rollout | None = None, **changes: Any) -> DeploymentRecord:
    return record(*replicas, current=changes.pop("current", CURRENT), target=BEFORE, watched=one or watched(), active=active, **changes)


def look(record: DeploymentRecord, readiness: Readiness | None = None, judgement: Judgement | None = None) -> list[Action]:
    looks = {one.id: ANSWERS for one in record.deployment.replicas if one.state is not ReplicaState.FAILED}
    seen = Observations(
        replicas=looks,
        pulls={"rel_new": PullStatus(PullState.DONE), "rel_old": PullStatus(PullState.DONE)},
        readiness={} if readiness is None else {CURRENT.id: readiness},
        judgements={} if judgement is None else {"rol_1": judgement},
    )
    return decide(record, seen, NOW, POLICY)


def test_the_release_before_stays_warm_as_it_is_and_gets_nothing_new() -> None:
    state = after(SERVING, *WARM)
    assert look(state) == []
    assert [one.release.id for one in wanted_replicas(state)] == ["rel_old", "rel_new"]
    # One of its two is gone: what may never serve again is not started for.
    fewer = after(SERVING, WARM[1])
    assert look(fewer) == []
    assert kept_releases(fewer) == [CURRENT, BEFORE]


def test_a_warm_replica_that_fails_is_started_again() -> None:
    failed = replica(ReplicaState.FAILED, "rel_old", age_s=100)
    assert [type(action).__name__ for action in look(after(SERVING, failed))] == ["StartReplica"]


def test_it_ends_with_its_time_and_the_release_before_winds_down() -> None:
    over = watched(watch_until=NOW)
    assert look(after(SERVING, *WARM, one=over)) == [EndWatch(over)]
    unwatched = record(SERVING, *WARM, current=CURRENT, target=BEFORE)
    assert look(unwatched) == [SetReplica(one, ReplicaState.STOPPING, "draining") for one in WARM]


OVER = {"watch_until": NOW}


def test_it_does_not_end_while_the_release_before_is_all_that_could_serve() -> None:
    starting, one = replica(ReplicaState.STARTING), watched(**OVER)
    recent = Readiness(none_s=20, some_missing_s=20, was_ready=True)
    for missing in (recent, Readiness(none_s=200, some_missing_s=200), Readiness()):
        assert not any(isinstance(action, EndWatch | UndoPromotion) for action in look(after(starting, *WARM, one=one), missing))
    (undo,) = look(after(starting, *WARM, one=one), LOST)
    assert isinstance(undo, UndoPromotion)
    # Neither could serve, or nobody is to.
    assert look(after(starting, replica(ReplicaState.STARTING, "rel_old"), one=one), recent) == [EndWatch(one)]
    assert look(after(starting, *WARM, one=one, is_stopped=True), recent) == [EndWatch(one)]


def test_a_verdict_that_fails_at_its_end_brings_the_release_before_back() -> None:
    (undo,) = look(after(SERVING, *WARM, one=watched(**OVER)), judgement=judged(Verdict.FAIL))
    assert isinstance(undo, UndoPromotion)


@pytest.mark.parametrize(
    "changes", [{"from_release_id": None}, {"watch_until": None}, {"to_release_id": "rel_old", "from_release_id": "rel_new"}]
)
def test_without_a_way_back_there_is_nothing_to_watch(changes: dict[str, Any]) -> None:
    one = watched(**changes)
    assert look(after(SERVING, *WARM, one=one)) == [EndWatch(one)]


@pytest.mark.parametrize("verdict", [Verdict.PASS, Verdict.INCONCLUSIVE])
def test_only_a_failed_verdict_brings_the_release_before_back(verdict: Verdict) -> None:
    assert look(after(SERVING, *WARM), judgement=judged(verdict)) == []
    (undo,) = look(after(SERVING, *WARM), judgement=judged(Verdict.FAIL, "12 of 40 requests failed"))
    assert isinstance(undo, UndoPromotion)
    assert undo.reason is RolloutReason.VERDICT_FAILED
    assert "12 of 40 requests failed" in undo.message


def test_a_crash_loop_brings_it_back() -> None:
    crashed = replica(ReplicaState.FAILED, num_restarts=3)
    (undo,) = look(after(crashed, *WARM))
    assert isinstance(undo, UndoPromotion)
    assert (undo.reason, undo.witness) == (RolloutReason.CRASH_LOOP, crashed)
    assert not any(isinstance(action, UndoPromotion) for action in look(after(replica(ReplicaState.FAILED, num_restarts=2), *WARM)))


def test_a_release_that_is_not_ready_for_long_gives_way() -> None:
    starting = replica(ReplicaState.STARTING)
    (undo,) = look(after(starting, *WARM), LOST)
    assert isinstance(undo, UndoPromotion)
    assert (undo.reason, undo.witness) == (RolloutReason.NOT_READY, starting)
    assert "no replica of bard@rel_new has been ready for 31 s" in undo.message


@pytest.mark.parametrize(
    ("readiness", "warm"),
    [
        (Readiness(none_s=29, some_missing_s=500, was_ready=True), WARM),
        # A controller that has begun anew has not seen it ready: it may be starting again with everything else.
        (Readiness(none_s=31, some_missing_s=31), WARM),
        # Neither is the release before: going back would help nobody.
        (LOST, [replica(ReplicaState.STARTING, "rel_old")]),
        (LOST, []),
    ],
)
def test_patience_where_going_back_is_no_answer(readiness: Readiness, warm: list[Replica]) -> None:
    assert not any(isinstance(action, UndoPromotion) for action in look(after(replica(ReplicaState.STARTING), *warm), readiness))


def test_a_release_that_is_scaled_to_zero_is_not_missed() -> None:
    scaled = CURRENT.model_copy(update={"scaling": Scaling(min_replicas=0, max_replicas=2)})
    assert look(after(*WARM, current=scaled, num_wanted=0), LOST) == []


def test_a_rollout_that_begins_ends_the_watch_and_one_that_waits_does_not() -> None:
    crashed, pending = replica(ReplicaState.FAILED, num_restarts=9), rollout(RolloutState.PENDING, id="rol_2", to_release_id="rel_old")
    waits = after(SERVING, *WARM, active=pending)
    assert look(waits) == [BeginRollout(pending)]
    # What is on its way is the answer to whatever happens meanwhile.
    assert not any(isinstance(action, UndoPromotion) for action in look(after(crashed, *WARM, active=pending)))
    progressing = rollout(id="rol_2", to_release_id="rel_old", from_release_id="rel_new")
    assert look(after(SERVING, active=progressing)) == [EndWatch(watched())]


def test_a_stopped_deployment_is_not_taken_back() -> None:
    state = after(replica(ReplicaState.FAILED, num_restarts=9), *WARM, is_stopped=True)
    assert not any(isinstance(action, UndoPromotion) for action in look(state))
