"""One pass: what fails in it holds up nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from factories.rollout_records import NOW, ago, judged, record, release, replica, rollout
from quantry_core.errors import Unavailable
from quantry_core.jobs import JobReason, Progress, Scaling
from quantry_core.rollouts import Release, Replica, ReplicaState, Rollout, RolloutReason, RolloutState
from quantry_core.strategies import CanaryStrategy
from quantry_core.verdicts import Judgement, Verdict
from quantry_deploy import reconcile
from quantry_deploy.actions import Action, EndRollout, FailReplica, KillReplica, RolloutMove, SetReplica
from quantry_deploy.observations import PullState, PullStatus, ReplicaObservation
from quantry_deploy.observing import Observer
from quantry_deploy.policy import Policy
from quantry_deploy.reconcile import Reconciler
from quantry_store.transactions.rollouts import DeploymentRecord

OLD, NEW = release("rel_old"), release("rel_new")
SERVING = replica(ReplicaState.READY, "rel_old")
LOST = replica(ReplicaState.FAILED, "rel_new")
MOVING = rollout(strategy=CanaryStrategy(), from_release_id="rel_old", staged_at=ago(5), exposed_at=ago(5), percent=10)
BACK = EndRollout(MOVING, RolloutState.ROLLED_BACK, RolloutReason.CRASH_LOOP, JobReason.INTERNAL, "it does not stay up", LOST)


class Books:
    """A ledger that remembers what was written."""

    def __init__(self) -> None:
        self.moves: list[RolloutMove] = []
        self.written: list[Replica] = []
        self.failing: Exception | None = None

    async def version(self, project_id: str, version_id: str) -> Any:
        return version_id

    async def move(self, move: RolloutMove) -> None:
        self.moves.append(move)

    async def write(self, replica: Replica) -> Replica:
        self.written.append(replica)
        return replica

    async def progress(self, project_id: str, rollout: Rollout, progress: Progress) -> None:
        if self.failing is not None:
            raise self.failing


class Engines:
    """A driver whose replicas are as they are."""

    def __init__(self) -> None:
        self.log: str | Exception = ""
        self.killed: list[str] = []
        self.stuck: set[str] = set()
        self.look = ReplicaObservation(is_running=True, answers=True, is_proven=True, num_waiting=0)

    def know(self, releases: Iterable[Release]) -> None: ...

    def pull_status(self, version: object, release: Release) -> PullStatus:
        return PullStatus(PullState.DONE)

    async def probe(self, replica: Replica, served_name: str) -> ReplicaObservation:
        return self.look

    async def log_tail(self, replica: Replica) -> str:
        if isinstance(self.log, Exception):
            raise self.log
        return self.log

    async def kill(self, replica: Replica) -> None:
        if replica.id in self.stuck:
            raise Unavailable("the cluster's API server did not answer")
        self.killed.append(replica.id)

    async def scaled_to(self, release: Release) -> int | None:
        return None


class Verdicts:
    """A judge that has made up its mind."""

    def __init__(self, judgement: Judgement | None) -> None:
        self.judgement = judgement

    async def look(self, record: DeploymentRecord, now: object) -> dict[str, Judgement]:
        return {} if self.judgement is None else {MOVING.id: self.judgement}


def make(books: Books, engines: Engines, judgement: Judgement | None = None) -> Reconciler:
    return Reconciler(books, engines, Policy(resumed_at=ago(500)), Verdicts(judgement))  # type: ignore[arg-type]


def moving() -> DeploymentRecord:
    return record(SERVING, LOST, current=OLD, target=NEW, active=MOVING)


def deciding(monkeypatch: pytest.MonkeyPatch, *actions: Action) -> None:
    monkeypatch.setattr(reconcile, "decide", lambda *_: list(actions))


@pytest.mark.parametrize(
    ("log", "message"),
    [
        ("out of memory", "it does not stay up. Its last log lines:\nout of memory"),
        ("", "it does not stay up"),
        (Unavailable("the cluster's API server did not answer"), "it does not stay up"),
        (PermissionError("rep.log"), "it does not stay up"),
        (TimeoutError(), "it does not stay up"),
    ],
)
async def test_a_rollback_does_not_wait_for_the_last_words_of_an_engine(
    log: str | Exception, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    books, engines = Books(), Engines()
    engines.log = log
    deciding(monkeypatch, BACK)
    assert await make(books, engines).reconcile(moving(), NOW)
    (move,) = books.moves
    assert isinstance(move, EndRollout)
    assert (move.reason, move.message) == (RolloutReason.CRASH_LOOP, message)


async def test_a_replica_is_recorded_as_failed_though_its_log_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    books, engines = Books(), Engines()
    engines.log = PermissionError("rep.log")
    deciding(monkeypatch, FailReplica(SERVING, "the engine ended", 0))
    await make(books, engines).reconcile(moving(), NOW)
    assert [(one.state, one.message) for one in books.written] == [(ReplicaState.FAILED, "the engine ended")]


@pytest.mark.parametrize("failing", [Unavailable("the job is locked"), ValueError("too long")])
async def test_progress_that_cannot_be_told_holds_nothing_up(failing: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    books, engines = Books(), Engines()
    books.failing = failing
    deciding(monkeypatch, BACK)
    assert await make(books, engines, judged(Verdict.INCONCLUSIVE)).reconcile(moving(), NOW)
    assert len(books.moves) == 1


async def test_a_replica_that_cannot_be_helped_holds_up_none_of_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    books, engines = Books(), Engines()
    engines.stuck.add(LOST.id)
    deciding(monkeypatch, KillReplica(LOST), KillReplica(SERVING), SetReplica(SERVING, ReplicaState.UNHEALTHY))
    with pytest.raises(Unavailable, match="API server"):
        await make(books, engines).reconcile(moving(), NOW)
    assert engines.killed == [SERVING.id]
    assert [one.state for one in books.written] == [ReplicaState.UNHEALTHY]


async def test_a_verdict_is_acted_on_before_replicas_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang(*_: object) -> None:
        raise AssertionError("nothing is looked at")

    books = Books()
    monkeypatch.setattr(Observer, "observe", hang)
    assert await make(books, Engines(), judged(Verdict.FAIL)).reconcile(moving(), NOW)
    assert [move.reason for move in books.moves if isinstance(move, EndRollout)] == [RolloutReason.VERDICT_FAILED]


async def test_a_release_that_comes_back_is_scaled_by_what_it_needs_now() -> None:
    scaling = Scaling(min_replicas=1, max_replicas=4, scale_down_after_s=300)
    one, other = release("rel_old", scaling=scaling, num_replicas=3), release("rel_new", scaling=scaling)
    replicas = [replica(ReplicaState.READY, "rel_old", ordinal=ordinal) for ordinal in range(3)]
    observer = Observer(Books(), Engines())  # type: ignore[arg-type]

    async def wanted(current: Release, at_s: float) -> int | None:
        of = record(*replicas, current=current, target=other if current is one else one)
        return (await observer.observe(of, {}, ago(-at_s))).num_wanted

    assert await wanted(one, 0) == 3
    assert await wanted(one, 299) == 3
    await wanted(other, 301)
    # For 300 s one has sufficed, but it was another release that served.
    assert await wanted(one, 320) == 3
    assert await wanted(one, 619) == 3
    assert await wanted(one, 620) == 1
