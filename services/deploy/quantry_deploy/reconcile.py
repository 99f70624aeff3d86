"""One pass over one deployment: observe, decide, act, persist. Early returns wait for the next pass."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime, timedelta
from typing import get_args

import structlog

from quantry_core.errors import Unavailable
from quantry_core.jobs import Progress
from quantry_core.rollouts import Replica, ReplicaState
from quantry_core.versions import VersionDetail
from quantry_deploy.actions import (
    Action,
    AdapterAction,
    AddReplica,
    BeginRollout,
    EndRollout,
    EndWatch,
    FailReplica,
    KillReplica,
    LoadAdapter,
    PauseRollout,
    PromoteRollout,
    PullAdapter,
    PullFiles,
    RemoveReplica,
    RolloutMove,
    SetAdapterMessage,
    SetAdapters,
    SetReplica,
    SetWanted,
    StageRollout,
    StartReplica,
    TerminateReplica,
    UndoPromotion,
    UnloadAdapter,
)
from quantry_deploy.decide import decide
from quantry_deploy.decide_rollout import urgent_move
from quantry_deploy.drivers.protocol import PoolDriver, StartOrder
from quantry_deploy.judging import Judging
from quantry_deploy.ledger import Ledger
from quantry_deploy.observations import Observations
from quantry_deploy.observing import Observer
from quantry_deploy.policy import Policy
from quantry_deploy.progress import rollout_progress
from quantry_store.transactions.rollouts import DeploymentRecord

TOLD_EVERY_S = 5.0
"""Progress of which only the words have changed is told this often: each time is an event."""

LOG_PATIENCE_S = 2.0
"""An end waits so long for the last lines of a replica."""

WORTH_A_LOOK = (*get_args(RolloutMove), SetWanted, PullFiles, AddReplica, SetReplica)
"""After one of these there is something to do next: the controller looks again at once. None of them is returned twice for nothing."""

_log = structlog.get_logger(__name__)


class Reconciler:
    """Moves deployments towards what their records ask for."""

    def __init__(self, ledger: Ledger, driver: PoolDriver, policy: Policy, judging: Judging) -> None:
        self._ledger = ledger
        self._driver = driver
        self._policy = policy
        self._judging = judging
        self._observer = Observer(ledger, driver)
        self._told: dict[str, tuple[str, Progress, datetime]] = {}

    def resume(self, now: datetime) -> None:
        """Says when the controller first saw the records: what began before has its whole time again."""
        self._policy = replace(self._policy, resumed_at=now)

    async def reconcile(self, record: DeploymentRecord, now: datetime) -> bool:
        """Does what is due for one deployment, as its record was ``now``; what fails is due again in the next pass.

        Returns whether another pass is worth while at once.
        """
        judgements = await self._judging.look(record, now)
        urgent = urgent_move(record, Observations(judgements=judgements))
        if urgent is not None:
            await self._carry_out(record, urgent, now)
            return True
        seen = await self._observer.observe(record, judgements, now)
        actions = decide(record, seen, now, self._policy)
        await self._tell(record, seen, now)
        failures = [failure for action in actions if (failure := await self._attempt(record, action, now)) is not None]
        if failures:
            raise failures[0]
        return any(isinstance(action, WORTH_A_LOOK) for action in actions)

    async def version(self, project_id: str, version_id: str) -> VersionDetail:
        """Returns a version; it is immutable, so it is asked for once."""
        return await self._observer.version(project_id, version_id)

    def keep_only(self, records: Collection[DeploymentRecord]) -> None:
        """Forgets what none of these deployments has to do with any more."""
        rollouts = {record.deployment.active_rollout.id for record in records if record.deployment.active_rollout is not None}
        self._told = {id_: told for id_, told in self._told.items() if told[0] in rollouts}
        self._judging.keep_only({record.deployment.id for record in records})
        self._observer.keep_only(records)

    async def close(self) -> None:
        """Gives up what goes on in the background."""
        await self._judging.close()
        await self._observer.close()

    async def _attempt(self, record: DeploymentRecord, action: Action, now: datetime) -> Exception | None:
        """Carries an action out; returns why that failed: a replica that cannot be helped holds up none of the others."""
        try:
            await self._carry_out(record, action, now)
        except Exception as error:
            _log.warning("action failed", deployment=record.deployment.name, action=type(action).__name__, error=str(error))
            return error
        return None

    async def _tell(self, record: DeploymentRecord, seen: Observations, now: datetime) -> None:
        """Shows where a rollout is as its job's progress, when that changed. Nothing that is to be done waits for it."""
        try:
            await self._tell_changes(record, seen, now)
        except Exception as error:
            _log.warning("progress not told", deployment=record.deployment.name, error=str(error))

    async def _tell_changes(self, record: DeploymentRecord, seen: Observations, now: datetime) -> None:
        rollout = record.deployment.active_rollout
        progress = None if rollout is None else rollout_progress(record, rollout, seen)
        if rollout is None or progress is None:
            return
        told = self._told.get(rollout.deployment_id)
        if told is not None and told[0] == rollout.id:
            is_same = (told[1].phase, told[1].fraction) == (progress.phase, progress.fraction)
            if told[1] == progress or (is_same and now - told[2] < timedelta(seconds=TOLD_EVERY_S)):
                return
        await self._ledger.progress(record.deployment.project_id, rollout, progress)
        self._told[rollout.deployment_id] = (rollout.id, progress, now)

    async def _carry_out(self, record: DeploymentRecord, action: Action, now: datetime) -> None:
        _log.info("action", deployment=record.deployment.name, action=type(action).__name__, **_subject(action))
        match action:
            case EndRollout() | UndoPromotion():
                await self._ledger.move(replace(action, message=await self._with_log(action.message, action.witness)))
            case BeginRollout() | StageRollout() | PauseRollout() | PromoteRollout() | EndWatch():
                await self._ledger.move(action)
            case SetWanted():
                await self._ledger.set_wanted(action)
            case PullFiles():
                self._driver.pull(await self.version(record.deployment.project_id, action.release.version_id), action.release)
            case AddReplica():
                await self._ledger.add_replica(action.release, action.ordinal, now)
            case StartReplica():
                await self._start(record, action)
            case SetReplica():
                await self._ledger.write(action.replica.model_copy(update={"state": action.state, "message": action.message}))
            case FailReplica():
                await self._fail(action)
            case TerminateReplica():
                await self._driver.terminate(action.replica)
            case KillReplica():
                await self._driver.kill(action.replica)
            case RemoveReplica():
                await self._driver.kill(action.replica)
                await self._ledger.remove(action.replica)
            case PullAdapter() | LoadAdapter() | UnloadAdapter() | SetAdapters() | SetAdapterMessage():
                await self._carry_out_for_adapter(action)

    async def _carry_out_for_adapter(self, action: AdapterAction) -> None:
        match action:
            case PullAdapter():
                version = await self.version(action.adapter.project_id, action.adapter.version_id)
                self._driver.pull(version, action.release)
            case LoadAdapter():
                version = await self.version(action.adapter.project_id, action.adapter.version_id)
                try:
                    await self._driver.load_adapter(action.replica, action.adapter.name, version)
                except Unavailable as error:
                    _log.warning("not loaded", replica=action.replica.id, adapter=action.adapter.name, error=error.detail)
            case UnloadAdapter():
                await self._driver.unload_adapter(action.replica, action.name)
            case SetAdapters():
                await self._ledger.write(action.replica.model_copy(update={"adapter_ids": action.adapter_ids}))
            case SetAdapterMessage():
                await self._ledger.set_adapter_message(action.adapter, action.message)

    async def _start(self, record: DeploymentRecord, action: StartReplica) -> None:
        """Starts the engine, then records it. If the second fails, the next pass finds the engine running and records that."""
        version = await self.version(record.deployment.project_id, action.release.version_id)
        order = StartOrder(action.replica, action.release, record.deployment.name, version)
        try:
            started = await self._driver.start(order)
        except Unavailable as error:
            _log.warning("not started", replica=action.replica.id, error=error.detail)
            if action.replica.state is not ReplicaState.FAILED and action.replica.message != error.detail:
                await self._ledger.write(action.replica.model_copy(update={"message": error.detail}))
            return
        except OSError as error:
            await self._fail(FailReplica(action.replica, f"the engine cannot be started: {error}", action.num_restarts))
            return
        changes: dict[str, object] = {
            "state": ReplicaState.STARTING,
            "url": started.url,
            "pid": started.pid,
            "pid_started_at": started.pid_started_at,
            "log_path": started.log_path,
            "num_restarts": action.num_restarts,
            "adapter_ids": [],
            "message": None,
        }
        await self._ledger.write(action.replica.model_copy(update=changes))

    async def _fail(self, action: FailReplica) -> None:
        """Ends what is left of a replica and records why. Without a pid in the record its next process is not a stray."""
        message = await self._with_log(action.message, action.replica)
        await self._driver.kill(action.replica)
        changes: dict[str, object] = {
            "state": ReplicaState.FAILED,
            "url": None,
            "pid": None,
            "pid_started_at": None,
            "num_restarts": action.num_restarts,
            "adapter_ids": [],
            "message": message,
        }
        await self._ledger.write(action.replica.model_copy(update=changes))

    async def _with_log(self, message: str, witness: Replica | None) -> str:
        """Returns a message with the witness's last lines, or without them where nobody can say them: nothing ends later for that."""
        tail = ""
        if witness is not None:
            try:
                async with asyncio.timeout(LOG_PATIENCE_S):
                    tail = await self._driver.log_tail(witness)
            except Exception as error:
                _log.warning("no last log lines", replica=witness.id, error=repr(error))
        return f"{message}. Its last log lines:\n{tail}" if tail else message


def _subject(action: Action) -> dict[str, str]:  # noqa: PLR0911  one row for each kind
    """Returns what an action is about, for the log line."""
    match action:
        case BeginRollout() | PromoteRollout() | EndWatch():
            return {"rollout": action.rollout.id}
        case StageRollout():
            share = {"percent": str(action.percent), "mirror_percent": str(action.mirror_percent)}
            return {"rollout": action.rollout.id, "stage": str(action.stage), **share}
        case PauseRollout() | EndRollout() | UndoPromotion():
            return {"rollout": action.rollout.id, "reason": action.reason, "message": action.message}
        case SetWanted():
            return {"num_wanted": str(action.num_wanted)}
        case PullFiles() | AddReplica():
            return {"release": action.release.id}
        case SetReplica():
            return {"replica": action.replica.id, "state": action.state}
        case FailReplica():
            return {"replica": action.replica.id, "message": action.message}
        case PullAdapter() | LoadAdapter() | SetAdapterMessage():
            return {"adapter": action.adapter.name}
        case StartReplica() | TerminateReplica() | KillReplica() | RemoveReplica() | UnloadAdapter() | SetAdapters():
            return {"replica": action.replica.id}
