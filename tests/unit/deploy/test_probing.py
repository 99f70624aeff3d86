"""Looks at replicas: what hangs holds nobody up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from factories.rollout_records import replica
from quantry_core.rollouts import Replica, ReplicaState
from quantry_deploy import probing
from quantry_deploy.observations import ReplicaObservation
from quantry_deploy.probing import Probing

ANSWERS = ReplicaObservation(is_running=True, answers=True, is_proven=True)
GONE = ReplicaObservation(is_running=False, ending="ended with exit status 1")


class Engines:
    """What looks see, and which of them hang."""

    def __init__(self) -> None:
        self.seen: dict[str, ReplicaObservation | Exception] = {}
        self.hanging: dict[str, asyncio.Event] = {}
        self.num_looks = 0

    async def probe(self, replica: Replica, served_name: str) -> ReplicaObservation:
        self.num_looks += 1
        if replica.id in self.hanging:
            await self.hanging[replica.id].wait()
        found = self.seen[replica.id]
        if isinstance(found, Exception):
            raise found
        return found


def one(id_: str = "rep_1", pid: int = 1) -> Replica:
    return replica(ReplicaState.READY, id=id_, pid=pid, url="http://127.0.0.1:1")


class Ticks:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PATIENCE_S", "FIRST_PATIENCE_S"):
        monkeypatch.setattr(probing, name, 0.001)


@pytest.fixture
def engines() -> Engines:
    return Engines()


async def settle(until: Callable[[], bool]) -> None:
    for _ in range(100):
        if until():
            return
        await asyncio.sleep(0)
    pytest.fail("it never came")


async def test_each_pass_looks_anew(engines: Engines) -> None:
    looks = Probing(engines)
    engines.seen["rep_1"] = ANSWERS
    assert await looks.look([one()], "chat") == {"rep_1": ANSWERS}
    engines.seen["rep_1"] = GONE
    assert await looks.look([one()], "chat") == {"rep_1": GONE}
    assert engines.num_looks == 2


async def test_one_that_hangs_is_silent_ever_longer_and_the_others_are_seen(engines: Engines) -> None:
    clock = Ticks()
    looks = Probing(engines, clock=clock)
    engines.seen |= {"rep_1": ANSWERS, "rep_2": ANSWERS}
    both = [one(), one("rep_2")]
    await looks.look(both, "chat")
    engines.hanging["rep_1"] = asyncio.Event()
    clock.now_s = 4.0
    found = await looks.look(both, "chat")
    assert found["rep_2"] == ANSWERS
    assert (found["rep_1"].is_running, found["rep_1"].answers, found["rep_1"].silent_s) == (True, False, 4.0)
    clock.now_s = 9.0
    assert (await looks.look(both, "chat"))["rep_1"].silent_s == 9.0
    # It is not asked again while the question is open.
    assert engines.num_looks == 5
    engines.hanging.pop("rep_1").set()
    await settle(lambda: len(asyncio.all_tasks()) == 1)
    assert (await looks.look(both, "chat"))["rep_1"] == ANSWERS


async def test_one_that_nobody_asked_was_not_silent(engines: Engines) -> None:
    clock = Ticks()
    looks = Probing(engines, clock=clock)
    engines.seen["rep_1"] = ANSWERS
    await looks.look([one()], "chat")
    # The database was away: no pass came for five minutes, and now it takes its time.
    clock.now_s = 300.0
    engines.hanging["rep_1"] = asyncio.Event()
    assert (await looks.look([one()], "chat"))["rep_1"].silent_s == 5.0
    clock.now_s = 302.0
    assert (await looks.look([one()], "chat"))["rep_1"].silent_s == 7.0
    engines.hanging.pop("rep_1").set()
    engines.seen["rep_1"] = ReplicaObservation(is_running=True, silent_s=303.0)
    await settle(lambda: len(asyncio.all_tasks()) == 1)
    assert (await looks.look([one()], "chat"))["rep_1"].silent_s == 8.0
    clock.now_s = 304.0
    engines.seen["rep_1"] = ReplicaObservation(is_running=True, silent_s=304.0)
    assert (await looks.look([one()], "chat"))["rep_1"].silent_s == 9.0
    # Once it has answered its silence counts from then.
    engines.seen["rep_1"] = ANSWERS
    await looks.look([one()], "chat")
    engines.seen["rep_1"] = ReplicaObservation(is_running=True, silent_s=12.0)
    assert (await looks.look([one()], "chat"))["rep_1"].silent_s == 12.0


async def test_one_that_is_seldom_asked_is_silent_all_the_same(engines: Engines) -> None:
    clock = Ticks()
    looks = Probing(engines, clock=clock)
    engines.seen["rep_1"] = ANSWERS
    await looks.look([one()], "chat")
    for num in (1, 2, 3):
        clock.now_s = 20.0 * num
        engines.seen["rep_1"] = ReplicaObservation(is_running=True, silent_s=clock.now_s)
        assert (await looks.look([one()], "chat"))["rep_1"].silent_s == 5.0 * num


async def test_one_that_was_never_seen_counts_as_a_process_that_does_not_answer(engines: Engines) -> None:
    looks = Probing(engines)
    engines.hanging["rep_1"] = asyncio.Event()
    assert await looks.look([one()], "chat") == {"rep_1": ReplicaObservation(is_running=True)}
    await looks.close()


async def test_a_look_that_takes_too_long_is_given_up_and_begun_anew(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "TIMEOUT_S", 0.001)
    looks = Probing(engines)
    engines.seen["rep_1"] = ANSWERS
    engines.hanging["rep_1"] = asyncio.Event()
    await looks.look([one()], "chat")
    for task in asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait([task])
    found = (await looks.look([one()], "chat"))["rep_1"]
    assert (found.is_running, found.answers) == (True, False)
    assert engines.num_looks == 2
    await looks.close()


async def test_another_process_is_looked_at_for_itself(engines: Engines) -> None:
    looks = Probing(engines)
    engines.hanging["rep_1"] = asyncio.Event()
    await looks.look([one(pid=1)], "chat")
    engines.hanging.clear()
    engines.seen["rep_1"] = ANSWERS
    assert await looks.look([one(pid=2)], "chat") == {"rep_1": ANSWERS}


async def test_what_a_look_raises_is_raised(engines: Engines) -> None:
    looks = Probing(engines)
    engines.seen["rep_1"] = RuntimeError("no cluster")
    with pytest.raises(RuntimeError, match="no cluster"):
        await looks.look([one()], "chat")
    engines.seen["rep_1"] = ANSWERS
    assert await looks.look([one()], "chat") == {"rep_1": ANSWERS}


async def test_replicas_that_are_gone_are_forgotten(engines: Engines) -> None:
    looks = Probing(engines)
    engines.hanging["rep_1"] = asyncio.Event()
    await looks.look([one()], "chat")
    looks.keep_only([])
    await settle(lambda: len(asyncio.all_tasks()) == 1)
