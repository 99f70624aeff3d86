"""The loop: looks at every deployment each interval and reconciles each on its own, so that none waits for another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime

import structlog

from quantry_core.errors import QuantryError, Unavailable
from quantry_core.rollouts import Replica, ReplicaState, RolloutState
from quantry_deploy.drivers.protocol import PoolDriver
from quantry_deploy.evidence import case_of
from quantry_deploy.ledger import Ledger
from quantry_deploy.metrics import DeployMetrics
from quantry_deploy.reconcile import Reconciler
from quantry_deploy.wanted import kept_releases
from quantry_store.transactions.rollouts import DeploymentRecord

TIDY_INTERVAL_S = 60.0
"""Between two looks for engines that no record knows, and for files that nobody serves."""

TIDY_PATIENCE_S = 2.0
"""A look waits so long for that; what takes longer goes on beside the next ones."""

BUSY_INTERVAL_S = 0.25
"""While a replica comes up or a candidate has traffic the controller looks at least this often: how long a deploy takes, and how long a
bad one goes on, is what it costs."""

NOTICED_WITHIN_S = 0.1
"""Between two looks at the revision, one number: what somebody asks for is begun so soon."""

COMING_UP = frozenset({ReplicaState.PULLING, ReplicaState.STARTING})

BREATH_S = 0.02
"""Between a pass after which there is something to do at once, and the next look."""

STALLED_AFTER_S = 30.0
"""Without a completed look at the records for this long, the controller is not well."""

_log = structlog.get_logger(__name__)


class Controller:
    """Runs until cancelled."""

    def __init__(
        self, ledger: Ledger, driver: PoolDriver, reconciler: Reconciler, *, interval_s: float, metrics: DeployMetrics | None = None
    ) -> None:
        self._metrics = DeployMetrics() if metrics is None else metrics
        self._ledger = ledger
        self._driver = driver
        self._reconciler = reconciler
        self._interval_s = interval_s
        self._passes: dict[str, asyncio.Task[None]] = {}
        self._looked_at_s = time.monotonic()
        self._next_tidy_s = 0.0
        self._tidying: asyncio.Task[None] | None = None
        self._rest_s = interval_s
        self._revision: int | None = None
        self._has_begun = False
        self._is_due = asyncio.Event()

    async def run(self) -> None:
        """Reconciles every ``interval_s`` seconds, and sooner where there is something to do. An error costs one look, never the loop."""
        while True:
            self._is_due.clear()
            try:
                with self._metrics.loops.round("looks"):
                    await self.look()
            except QuantryError as error:
                _log.warning("look failed", error=error.detail)
            except Exception:  # a defect must not leave every deployment unattended
                _log.exception("look failed")
            await self._rest()

    async def look(self) -> None:
        """Loads the records, begins a pass for each deployment that is not in one, and tidies up when that is due."""
        self._passes = {id_: task for id_, task in self._passes.items() if not task.done()}
        looked = await self._ledger.load()
        records, now = looked.records, looked.now
        self._metrics.saw(records)
        if not self._has_begun:
            self._reconciler.resume(now)
            self._has_begun = True
        for record in records:
            if record.deployment.id not in self._passes:
                self._passes[record.deployment.id] = asyncio.create_task(self._pass(record, now))
        self._revision = looked.revision
        self._rest_s = min(self._interval_s, BUSY_INTERVAL_S) if any(_is_busy(record) for record in records) else self._interval_s
        self._looked_at_s = time.monotonic()
        await self._tidy_when_due(records)

    async def settle(self, *, within_s: float) -> None:
        """Returns when every pass that was begun has ended; those that go on after ``within_s`` seconds are cancelled."""
        if self._tidying is not None:
            self._tidying.cancel()
            self._tidying = None
        if not self._passes:
            return
        _, pending = await asyncio.wait(self._passes.values(), timeout=within_s)
        for task in pending:
            task.cancel()
        await asyncio.gather(*pending, return_exceptions=True)

    async def check(self) -> None:
        """Raises Unavailable if the loop has not looked for a while."""
        silent_s = time.monotonic() - self._looked_at_s
        if silent_s > STALLED_AFTER_S:
            raise Unavailable(f"the controller last looked at the deployments {silent_s:.0f} s ago")

    async def stop_replicas(self, *, within_s: float) -> None:
        """Ends every engine and records each replica as stopped; the next controller starts the wanted ones again."""
        await self._driver.stop_all(within_s=within_s)
        for record in (await self._ledger.load()).records:
            for replica in record.deployment.replicas:
                await self._ledger.write(_stopped(replica))

    async def _rest(self) -> None:
        """Returns when the next look is due: after its interval, after a pass that left something to do, or when somebody asked."""
        loop = asyncio.get_running_loop()
        ends_at_s = loop.time() + self._rest_s
        while (left_s := ends_at_s - loop.time()) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, NOTICED_WITHIN_S)):
                    await self._is_due.wait()
                await asyncio.sleep(BREATH_S)
                return
            # When the rest is over the look sees what was asked.
            if left_s > NOTICED_WITHIN_S and await self._is_asked():
                return

    async def _is_asked(self) -> bool:
        """Tells whether anything changed since the last look that the routes' revision counts."""
        try:
            seen, self._revision = self._revision, await self._ledger.revision()
        except Exception:  # the next look meets it too, and says what it is
            return False
        return self._revision != seen

    async def _pass(self, record: DeploymentRecord, now: datetime) -> None:
        try:
            with self._metrics.loops.round("passes"):
                is_due = await self._reconciler.reconcile(record, now)
            if is_due:
                self._is_due.set()
        except QuantryError as error:
            _log.warning("pass failed", deployment=record.deployment.name, error=error.detail)
        except Exception:  # one deployment's failure never stops the others
            _log.exception("pass failed", deployment=record.deployment.name)

    async def _tidy_when_due(self, records: list[DeploymentRecord]) -> None:
        """Tidies up, or takes what came of that; a driver that hangs at it does not keep candidates from being looked at."""
        if self._tidying is None:
            if self._looked_at_s < self._next_tidy_s:
                return
            self._reconciler.keep_only(records)
            self._tidying = asyncio.create_task(self._tidy())
            await asyncio.wait([self._tidying], timeout=TIDY_PATIENCE_S)
        if self._tidying.done():
            tidied, self._tidying = self._tidying, None
            tidied.result()

    async def _tidy(self) -> None:
        await self._prune(await self._end_strays())
        # Only now that both succeeded: what failed is due again at the next look.
        self._next_tidy_s = time.monotonic() + TIDY_INTERVAL_S

    async def _end_strays(self) -> list[DeploymentRecord]:
        """Returns the records that it went by."""
        # Processes first, records second: an engine is always recorded before it is started.
        running = await self._driver.running()
        records = (await self._ledger.load()).records
        replicas = [replica for record in records for replica in record.deployment.replicas]
        known = {replica.id: replica.pid for replica in replicas}
        for replica_id, pids in running.items():
            if is_stray(replica_id, set(pids), known):
                _log.warning("ending an engine that no record knows", replica=replica_id, pids=sorted(pids))
                await self._driver.kill_strays(replica_id, pids)
        return records

    async def _prune(self, records: list[DeploymentRecord]) -> None:
        """Forgets the files of versions that nobody serves or is about to."""
        kept = [(record.deployment.project_id, release.version_id) for record in records for release in kept_releases(record)]
        kept += [(adapter.project_id, adapter.version_id) for record in records for adapter in record.deployment.adapters]
        versions = [await self._reconciler.version(project_id, version_id) for project_id, version_id in kept]
        await self._driver.prune({version.manifest_digest for version in versions})


def is_stray(replica_id: str, pids: set[int], known: Mapping[str, int | None]) -> bool:
    """Tells whether engines belong to nobody: their replica is unknown, or recorded with a process that is not among them.

    A known replica without a process id is left alone: its start is about to be recorded.
    """
    if replica_id not in known:
        return True
    recorded = known[replica_id]
    return recorded is not None and recorded not in pids


def _is_busy(record: DeploymentRecord) -> bool:
    """Tells whether a replica comes up, a rollout is about to begin, or a candidate is judged."""
    rollout = record.deployment.active_rollout
    is_pending = rollout is not None and rollout.state is RolloutState.PENDING
    return is_pending or any(replica.state in COMING_UP for replica in record.deployment.replicas) or case_of(record) is not None


def _stopped(replica: Replica) -> Replica:
    changes: dict[str, object] = {
        "state": ReplicaState.STOPPED,
        "url": None,
        "pid": None,
        "pid_started_at": None,
        "message": None,
        "num_restarts": 0,
        "adapter_ids": [],
    }
    return replica.model_copy(update=changes)
