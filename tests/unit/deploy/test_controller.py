"""How often the controller looks, and that no pass waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import pytest

from factories.rollout_records import NOW, ago, record, release, replica, rollout, true_version
from quantry_core.errors import Unavailable
from quantry_core.rollouts import Replica, ReplicaState, RolloutState
from quantry_core.strategies import CanaryStrategy
from quantry_deploy import controller as module
from quantry_deploy.controller import BUSY_INTERVAL_S, Controller, is_stray
from quantry_deploy.ledger import Looked
from quantry_store.transactions.rollouts import DeploymentRecord

OLD, NEW = release("rel_old"), release("rel_new")
QUIET = record(current=OLD)
JUDGED = record(
    current=OLD, target=NEW, active=rollout(strategy=CanaryStrategy(), from_release_id="rel_old", staged_at=ago(1), exposed_at=ago(1))
)
PENDING = record(target=NEW, active=rollout(RolloutState.PENDING))
STARTING = record(replica(ReplicaState.STARTING, "rel_old"), current=OLD)
SERVING = record(replica(ReplicaState.READY, "rel_old"), current=OLD)


class Records:
    """A ledger that has records, or is away."""

    def __init__(self, *records: DeploymentRecord) -> None:
        self.records = list(records)
        self.num_loads = 0
        self.num_failures = 0
        self.until = 0
        self.num_changes = self.num_asked = 0
        self.questions: asyncio.Queue[int] = asyncio.Queue()
        self.changed_at: set[int] = set()
        """Which questions for the revision find another one."""
        self.away_at: set[int] = set()
        self.is_enough = asyncio.Event()

    async def load(self) -> Looked:
        self.num_loads += 1
        if self.num_loads >= self.until:
            self.is_enough.set()
        if self.num_failures:
            self.num_failures -= 1
            raise Unavailable("the database is away")
        return Looked(self.records, NOW, self.num_changes)

    async def revision(self) -> int:
        self.num_asked += 1
        self.questions.put_nowait(self.num_asked)
        if self.num_asked in self.away_at:
            raise Unavailable("the database is away")
        self.num_changes += self.num_asked in self.changed_at
        return self.num_changes

    async def write(self, replica: Replica) -> Replica:
        return replica


class Passes:
    """A reconciler: what its passes return, and which of them hang."""

    def __init__(self, *worth: bool) -> None:
        self.worth = list(worth)
        self.resumed: list[datetime] = []
        self.names: list[str] = []
        self.hanging: set[str] = set()

    def resume(self, now: datetime) -> None:
        self.resumed.append(now)

    async def reconcile(self, record: DeploymentRecord, now: datetime) -> bool:
        self.names.append(record.deployment.name)
        if record.deployment.name in self.hanging:
            await asyncio.Event().wait()
        return self.worth.pop(0) if self.worth else False

    async def version(self, project_id: str, version_id: str) -> Any:
        return true_version({version_id: b""})

    def keep_only(self, records: Collection[DeploymentRecord]) -> None: ...


class Engines:
    """A driver without engines."""

    def __init__(self) -> None:
        self.num_tidied = 0
        self.failing: Exception | None = None
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def running(self) -> Mapping[str, Collection[int]]:
        self.num_tidied += 1
        await self.goes_on.wait()
        if self.failing is not None:
            raise self.failing
        return {}

    async def prune(self, manifest_digests: Collection[str]) -> None: ...


def make(records: Records, passes: Passes, interval_s: float = 3600.0) -> Controller:
    made = Controller(records, Engines(), passes, interval_s=interval_s)  # type: ignore[arg-type]
    # Nothing is due to be tidied.
    made._next_tidy_s = float("inf")
    return made


@pytest.fixture(autouse=True)
def breathless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BREATH_S", 0.0)


async def running(controller: Controller, until: int, records: Records) -> None:
    """Lets the controller run until it has looked so often."""
    records.until = until
    loop = asyncio.create_task(controller.run())
    async with asyncio.timeout(5):
        await records.is_enough.wait()
    for _ in range(20):
        await asyncio.sleep(0)
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)


async def test_after_a_pass_that_moved_something_it_looks_again_at_once() -> None:
    records, passes = Records(QUIET), Passes(True, True, False)
    await running(make(records, passes), 3, records)
    # The third has found nothing to do: the next look is an hour away.
    assert records.num_loads == 3
    assert passes.resumed == [NOW]


async def test_what_somebody_asks_for_ends_its_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NOTICED_WITHIN_S", 0.001)
    records, passes = Records(QUIET), Passes()
    # A database that is away at one question is asked again; the third finds that something changed.
    records.away_at, records.changed_at = {1}, {3}
    await running(make(records, passes), 2, records)
    assert records.num_loads == 2
    assert records.num_asked >= 3


async def test_without_a_change_it_rests_for_its_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NOTICED_WITHIN_S", 0.001)
    records = Records(QUIET)
    loop = asyncio.create_task(make(records, Passes()).run())
    async with asyncio.timeout(5):
        for _ in range(20):
            await records.questions.get()
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    assert records.num_loads == 1


async def test_a_database_that_is_away_costs_looks_and_not_the_loop() -> None:
    records, passes = Records(QUIET), Passes()
    records.num_failures = 2
    await running(make(records, passes, interval_s=0.001), 4, records)
    assert passes.names[:1] == ["chat"]
    # It begins to count once it has seen the records.
    assert len(passes.resumed) == 1


async def test_a_pass_that_hangs_holds_up_no_other_deployment() -> None:
    other = QUIET.model_copy(update={"deployment": QUIET.deployment.model_copy(update={"id": "dep_2", "name": "other"})})
    records, passes = Records(QUIET, other), Passes()
    passes.hanging.add("chat")
    controller = make(records, passes)
    for _ in range(3):
        await controller.look()
        await asyncio.sleep(0)
    assert passes.names == ["chat", "other", "other", "other"]
    await controller.settle(within_s=0)


async def test_tidying_up_that_hangs_keeps_nothing_from_being_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIDY_PATIENCE_S", 0.001)
    engines, passes = Engines(), Passes()
    engines.goes_on.clear()
    controller = Controller(Records(QUIET), engines, passes, interval_s=1)  # type: ignore[arg-type]
    for _ in range(3):
        await controller.look()
        await asyncio.sleep(0)
    assert (engines.num_tidied, passes.names) == (1, ["chat"] * 3)
    # What came of it is told by a later look; what failed is due again.
    engines.failing = Unavailable("the cluster's API server did not answer")
    engines.goes_on.set()
    for _ in range(3):
        await asyncio.sleep(0)
    with pytest.raises(Unavailable):
        await controller.look()
    engines.failing = None
    for _ in range(2):
        await controller.look()
    assert engines.num_tidied == 2
    await controller.settle(within_s=1)


@pytest.mark.parametrize(
    ("records", "interval_s", "rests_s"),
    [
        ([QUIET], 1.0, 1.0),
        ([QUIET, JUDGED], 1.0, BUSY_INTERVAL_S),
        ([JUDGED], 0.1, 0.1),
        ([PENDING], 1.0, BUSY_INTERVAL_S),
        ([STARTING], 1.0, BUSY_INTERVAL_S),
        ([SERVING], 1.0, 1.0),
    ],
)
async def test_it_looks_more_often_while_something_comes_up_or_is_judged(
    records: list[DeploymentRecord], interval_s: float, rests_s: float
) -> None:
    controller = make(Records(*records), Passes(), interval_s)
    await controller.look()
    await controller.settle(within_s=1)
    assert controller._rest_s == rests_s


def test_a_controller_that_has_not_looked_for_long_is_not_well(monkeypatch: pytest.MonkeyPatch) -> None:
    controller = make(Records(), Passes())
    controller._looked_at_s -= module.STALLED_AFTER_S + 1
    with pytest.raises(Unavailable, match="31 s ago"):
        asyncio.run(controller.check())


@pytest.mark.parametrize(
    ("known", "pids", "stray"), [({}, {1}, True), ({"rep_1": None}, {1}, False), ({"rep_1": 1}, {1, 2}, False), ({"rep_1": 3}, {1}, True)]
)
def test_a_stray_is_an_engine_of_nobody(known: dict[str, int | None], pids: set[int], *, stray: bool) -> None:
    assert is_stray("rep_1", pids, known) is stray
