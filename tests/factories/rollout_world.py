"""A deployment, its engines and its records without a database or processes: what controllers do to it, and what it does to them.

A controller is what it remembers; one that is killed is followed by one that remembers nothing. Moves of a rollout are carried out as
the store does it, fenced and checked by the same transition table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from factories.rollout_records import NOW, judged, record, release, rollout
from quantry_core.rollouts import (
    ACTIVE_ROLLOUT_STATES,
    Release,
    Replica,
    ReplicaState,
    Rollout,
    RolloutCause,
    RolloutReason,
    RolloutState,
    check_rollout_transition,
)
from quantry_core.strategies import ImmediateStrategy, Strategy
from quantry_core.verdicts import Judgement, Verdict
from quantry_deploy.actions import (
    Action,
    AddReplica,
    BeginRollout,
    EndRollout,
    EndWatch,
    FailReplica,
    KillReplica,
    PauseRollout,
    PromoteRollout,
    PullFiles,
    RemoveReplica,
    RolloutMove,
    SetReplica,
    StageRollout,
    StartReplica,
    TerminateReplica,
    UndoPromotion,
)
from quantry_deploy.decide import decide
from quantry_deploy.evidence import case_of
from quantry_deploy.observations import Observations, PullState, PullStatus, ReplicaObservation
from quantry_deploy.policy import Policy
from quantry_deploy.readiness import ReadinessMemory
from quantry_store.transactions.rollouts import DeploymentRecord

PULL_S = 2.0
START_S = 3.0
READY_TIMEOUT_S = 60.0
PATIENCE_S = 1200


@dataclass
class Engine:
    """A process. It answers some seconds after its start, and ends by itself after others; None: never."""

    started_at: datetime
    answers_after_s: float | None = START_S
    ends_after_s: float | None = None
    ended_at: datetime | None = None


@dataclass(frozen=True)
class Behaviour:
    """What the engines of a release do."""

    answers_after_s: float | None = START_S
    ends_after_s: float | None = None
    files: PullState = PullState.DONE
    ends_when_promoted: bool = False


Judge = Callable[[str, float], Verdict | None]
"""Says by the part of a rollout (its stage, or the watch) and the seconds since that began what the evidence says then."""


@dataclass
class Controller:
    """What one controller process remembers."""

    resumed_at: datetime
    readiness: ReadinessMemory = field(default_factory=ReadinessMemory)
    pulled_at: dict[str, datetime] = field(default_factory=dict)


class Killed(Exception):
    """The controller's process is gone."""


class World:
    """One deployment that serves ``rel_old`` with two replicas, unless it is its first rollout, and is to serve ``rel_new``."""

    def __init__(
        self,
        strategy: Strategy,
        *,
        behaviour: Behaviour | None = None,
        judge: Judge = lambda part, seconds: None,
        is_first: bool = False,
        watch_s: float = 0.0,
    ) -> None:
        self.now = NOW
        self.old, self.new = release("rel_old", num_replicas=2), release("rel_new", num_replicas=2)
        self.behaviours = {"rel_old": Behaviour(), "rel_new": behaviour or Behaviour()}
        self.judge = judge
        self.current: Release | None = None if is_first else self.old
        from_id = None if is_first else self.old.id
        values: dict[str, Any] = {"strategy": strategy, "from_release_id": from_id, "watch_s": watch_s, "created_at": self.now}
        deadline_at = self.now + timedelta(seconds=READY_TIMEOUT_S)
        self.rollouts = [rollout(RolloutState.PENDING, ready_deadline_at=deadline_at, **values)]
        self.watched_id: str | None = None
        self.replicas: dict[str, Replica] = {}
        self.engines: dict[str, Engine] = {}
        self.is_cancelled = self.is_stopped = False
        self.num_added = 0
        self.moves: list[RolloutMove] = []
        self.outages: list[datetime] = []
        """When nobody answered though somebody had before."""
        self.has_served = False
        self.controller = Controller(self.now)
        self.kill_at: tuple[int, bool] | None = None
        """The controller dies at its n-th action: before it, or after it."""
        self.num_actions = 0
        if not is_first:
            for ordinal in (0, 1):
                replica = self._add(self.old, ordinal)
                self._start(replica, 0)
                self._set(self.replicas[replica.id], state=ReplicaState.READY)
                self.engines[replica.id].started_at = self.now - timedelta(seconds=1000)

    @property
    def rollout(self) -> Rollout:
        """The rollout that everything is about."""
        return self.rollouts[0]

    @property
    def active(self) -> Rollout | None:
        return next((one for one in self.rollouts if one.state in ACTIVE_ROLLOUT_STATES), None)

    @property
    def is_calm(self) -> bool:
        """Whether nothing is due any more: no rollout, no watch, and the replicas are those of the current release."""
        wanted = 0 if self.is_stopped or self.current is None else self.current.num_replicas
        states = [(one.release_id, one.state) for one in self.replicas.values()]
        serving = [(self.current.id, ReplicaState.READY)] * wanted if self.current is not None else []
        return self.active is None and self.watched_id is None and states == serving

    def record(self) -> DeploymentRecord:
        watched = next((one for one in self.rollouts if one.id == self.watched_id), None)
        found = record(
            *self.replicas.values(),
            current=self.current,
            active=self.active,
            watched=watched,
            cancel_requested=self.is_cancelled,
            is_stopped=self.is_stopped,
        )
        return found.model_copy(update={"releases": {one.id: one for one in (self.old, self.new)}})

    def step(self, seconds: float = 1.0) -> None:
        """Lets time pass, and the controller make one pass."""
        self.now += timedelta(seconds=seconds)
        for engine in self.engines.values():
            if engine.ends_after_s is not None and self._age_s(engine) >= engine.ends_after_s and engine.ended_at is None:
                engine.ended_at = self.now
        try:
            self._pass()
        except Killed:
            self.controller = Controller(self.now)
        self._watch_service()

    def run(self, steps: int = PATIENCE_S) -> None:
        """Goes on until all is calm; raises AssertionError if it never is, or a person has to say something."""
        for _ in range(steps):
            self.step()
            if self.is_calm:
                return
        raise AssertionError(f"not calm: {self.rollouts}, {list(self.replicas.values())}")

    def ask(self, **changes: Any) -> None:
        """Changes the active rollout as a person's request does."""
        active = self.active
        assert active is not None
        if "state" in changes:
            check_rollout_transition(active.state, changes["state"])
        self._write(active, **changes)

    def observe(self, record: DeploymentRecord) -> Observations:
        case = case_of(record)
        judgements: dict[str, Judgement] = {}
        if case is not None:
            verdict = self.judge(case.part, (self.now - case.candidate_since).total_seconds())
            if verdict is not None:
                judgements[case.rollout.id] = judged(verdict)
        return Observations(
            replicas={id_: self._look(id_) for id_ in self.replicas},
            pulls={release_id: self._pull(release_id) for release_id in record.releases},
            readiness=self.controller.readiness.look(record, self.now),
            judgements=judgements,
        )

    def _pass(self) -> None:
        record = self.record()
        policy = Policy(resumed_at=self.controller.resumed_at, drain_s=2, stop_grace_s=5, max_backoff_s=4)
        for action in decide(record, self.observe(record), self.now, policy):
            is_fatal, before = (False, False) if self.kill_at is None else (self.kill_at[0] == self.num_actions, self.kill_at[1])
            self.num_actions += 1
            if is_fatal and before:
                raise Killed
            self._carry_out(action)
            if is_fatal:
                raise Killed

    def _carry_out(self, action: Action) -> None:
        match action:
            case PullFiles(release):
                self.controller.pulled_at.setdefault(release.id, self.now)
            case AddReplica(release, ordinal):
                self._add(release, ordinal)
            case StartReplica(replica, _, num_restarts):
                self._start(replica, num_restarts)
            case SetReplica(replica, state):
                self._set(replica, state=state)
            case FailReplica(replica, _, num_restarts):
                self.engines.pop(replica.id, None)
                self._set(replica, state=ReplicaState.FAILED, num_restarts=num_restarts)
            case TerminateReplica(replica) | KillReplica(replica):
                self.engines.pop(replica.id, None)
            case RemoveReplica(replica):
                self.engines.pop(replica.id, None)
                del self.replicas[replica.id]
            case _:
                assert isinstance(action, RolloutMove), action
                self.moves.append(action)
                self._move(action)

    def _move(self, move: RolloutMove) -> None:
        seen = next(one for one in self.rollouts if one.id == move.rollout.id)
        assert seen == move.rollout, "decided by something else than the record"
        match move:
            case BeginRollout():
                self.watched_id = None
                deadline_at = self.now + timedelta(seconds=READY_TIMEOUT_S)
                self._write(seen, state=RolloutState.PROGRESSING, ready_deadline_at=deadline_at)
            case StageRollout(_, stage, percent, mirror_percent):
                exposed_at = seen.exposed_at or (self.now if percent or mirror_percent else None)
                shares = {"percent": percent, "mirror_percent": mirror_percent}
                self._write(seen, stage=stage, staged_at=self.now, exposed_at=exposed_at, is_resumed=False, **shares)
            case PauseRollout(_, reason, message):
                self._write(seen, state=RolloutState.PAUSED, reason=reason, message=message)
            case PromoteRollout():
                self._promote(seen)
            case EndRollout(_, state, reason, _, message):
                self._write(seen, state=state, reason=reason, message=message, percent=0, mirror_percent=0, finished_at=self.now)
            case UndoPromotion(_, reason, message):
                self._undo(seen, reason, message)
            case EndWatch():
                self.watched_id = None

    def _promote(self, seen: Rollout) -> None:
        is_watched = seen.watch_s > 0 and seen.from_release_id is not None
        until = self.now + timedelta(seconds=seen.watch_s) if is_watched else None
        self._write(seen, state=RolloutState.PROMOTED, percent=100, mirror_percent=0, finished_at=self.now, watch_until=until)
        self.watched_id = seen.id if is_watched else None
        self.current = self.new if seen.to_release_id == self.new.id else self.old
        if self.behaviours[self.current.id].ends_when_promoted:
            self.behaviours[self.current.id] = Behaviour(answers_after_s=None, ends_after_s=1.0)
            for replica in self.replicas.values():
                if replica.release_id == self.current.id and replica.id in self.engines:
                    self.engines[replica.id].ended_at = self.now

    def _undo(self, seen: Rollout, reason: RolloutReason, message: str) -> None:
        assert seen.id == self.watched_id
        assert self.active is None
        self.watched_id = None
        back = rollout(
            RolloutState.PENDING,
            id=f"rol_{len(self.rollouts) + 1}",
            job_id=None,
            cause=RolloutCause.WATCH,
            strategy=ImmediateStrategy(),
            from_release_id=seen.to_release_id,
            to_release_id=seen.from_release_id,
            reason=reason,
            message=message,
            created_at=self.now,
            ready_deadline_at=self.now + timedelta(seconds=READY_TIMEOUT_S),
        )
        if any(one.release_id == seen.from_release_id and one.state is ReplicaState.READY for one in self.replicas.values()):
            back = back.model_copy(update={"state": RolloutState.PROMOTED, "finished_at": self.now})
            self.current = self.old
        self.rollouts.append(back)

    def _write(self, seen: Rollout, **changes: Any) -> None:
        if "state" in changes:
            check_rollout_transition(seen.state, changes["state"])
        index = next(index for index, one in enumerate(self.rollouts) if one.id == seen.id)
        self.rollouts[index] = seen.model_copy(update=changes)

    def _add(self, release: Release, ordinal: int) -> Replica:
        self.num_added += 1
        values = {"release_id": release.id, "ordinal": ordinal, "state": ReplicaState.PULLING, "updated_at": self.now}
        replica = Replica.model_validate({"id": f"rep_{self.num_added:03d}", **values})
        self.replicas[replica.id] = replica
        return replica

    def _start(self, replica: Replica, num_restarts: int) -> None:
        behaviour = self.behaviours[replica.release_id]
        if replica.id not in self.engines or self.engines[replica.id].ended_at is not None:
            self.engines[replica.id] = Engine(self.now, behaviour.answers_after_s, behaviour.ends_after_s)
        self._set(replica, state=ReplicaState.STARTING, num_restarts=num_restarts)

    def _set(self, replica: Replica, **changes: Any) -> None:
        self.replicas[replica.id] = replica.model_copy(update={**changes, "updated_at": self.now})

    def _age_s(self, engine: Engine) -> float:
        return (self.now - engine.started_at).total_seconds()

    def _look(self, replica_id: str) -> ReplicaObservation:
        engine = self.engines.get(replica_id)
        if engine is None or engine.ended_at is not None:
            return ReplicaObservation(is_running=False, ending="ended with exit status 1")
        answers = engine.answers_after_s is not None and self._age_s(engine) >= engine.answers_after_s
        return ReplicaObservation(is_running=True, answers=answers, is_proven=answers)

    def _pull(self, release_id: str) -> PullStatus:
        pulled_at = self.controller.pulled_at.get(release_id)
        if pulled_at is None:
            return PullStatus(PullState.ABSENT)
        if self.now - pulled_at < timedelta(seconds=PULL_S):
            return PullStatus(PullState.RUNNING)
        return PullStatus(self.behaviours[release_id].files, message="its bytes are not their digest")

    def _watch_service(self) -> None:
        """Notes when nobody serves: of the current release, or of a candidate that has a share."""
        ready = {one.release_id for one in self.replicas.values() if one.state is ReplicaState.READY and self._look(one.id).answers}
        active = self.active
        shares = {self.current.id} if self.current is not None else set()
        if active is not None and active.percent:
            shares.add(active.to_release_id)
        if shares & ready:
            self.has_served = True
        elif self.has_served and not self.is_stopped:
            self.outages.append(self.now)
