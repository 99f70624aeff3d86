"""Requests that wait for room at a release."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from quantry_core.routes import RoutedReplica
from quantry_gateway import queues
from quantry_gateway.balancer import Balancer, Turn
from quantry_gateway.ejection import Ejection
from quantry_gateway.queues import FindReplicas, NothingLeft, QueueFull, Queues, WaitedTooLong

A, B = (RoutedReplica(id=name, release_id="rel_1", url=f"http://{name}", max_requests=1) for name in ("a", "b"))


class Release:
    """Queues of one release, whose replicas can change."""

    def __init__(self, *replicas: RoutedReplica, max_waiting: int = 8, wait_s: float = 60.0) -> None:
        self.replicas: Sequence[RoutedReplica] = replicas
        self.now_s = 0.0
        self.balancer = Balancer(Ejection(after=1, first_s=60.0, longest_s=60.0, clock_s=lambda: self.now_s))
        self.queues = Queues(self.balancer, max_waiting=max_waiting, wait_s=wait_s)

    async def take(self, *besides: str, find: FindReplicas | None = None) -> Turn:
        return await self.queues.take("rel_1", find or (lambda: self.replicas), besides)

    def wait(self, *besides: str, find: FindReplicas | None = None) -> asyncio.Task[Turn]:
        return asyncio.create_task(self.take(*besides, find=find))

    def give_back(self, turn: Turn) -> None:
        self.queues.give_back("rel_1", turn)


async def settle() -> None:
    """Lets every task go on until it waits."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_came_first_is_first_and_nobody_passes() -> None:
    release = Release(A)
    held = await release.take()
    waiting = [release.wait() for _ in range(3)]
    await settle()
    for n, task in enumerate(waiting):
        release.give_back(held)
        # The room is handed over at once: a request that arrives now waits behind.
        late = release.wait()
        await settle()
        assert [other.done() for other in waiting] == [m <= n for m in range(3)]
        assert not late.done()
        late.cancel()
        held = task.result()
    release.give_back(held)
    assert release.balancer.num_outstanding("a") == 0


async def test_a_full_queue_is_full_and_has_room_again() -> None:
    release = Release(A, max_waiting=2)
    held = await release.take()
    waiting = [release.wait() for _ in range(2)]
    await settle()
    with pytest.raises(QueueFull):
        await release.take()
    waiting[0].cancel()
    await settle()
    waiting.append(release.wait())
    await settle()
    release.give_back(held)
    await settle()
    assert [task.done() for task in waiting] == [True, True, False]
    waiting[2].cancel()


async def test_who_waits_too_long_is_told_so() -> None:
    release = Release(A, wait_s=0.001)
    await release.take()
    with pytest.raises(WaitedTooLong):
        await release.take()


async def test_room_given_to_one_that_leaves_goes_to_the_next() -> None:
    release = Release(A)
    held = await release.take()
    leaves, stays = release.wait(), release.wait()
    await settle()
    release.give_back(held)
    # The turn is in its hands already, though it has not seen it.
    leaves.cancel()
    await settle()
    assert leaves.cancelled()
    assert stays.result().replica is A
    assert release.balancer.num_outstanding("a") == 1


async def test_who_cannot_use_the_room_does_not_hold_up_the_others() -> None:
    release = Release(A, B)
    held = [await release.take(), await release.take()]
    # As an adapter's requests: only one replica has it loaded. And as a request that has been at one.
    only_b, tried_b, anywhere = release.wait(find=lambda: [B]), release.wait("b"), release.wait()
    await settle()
    release.give_back(next(turn for turn in held if turn.replica is A))
    await settle()
    assert (only_b.done(), tried_b.done(), anywhere.done()) == (False, True, False)
    release.give_back(next(turn for turn in held if turn.replica is B))
    await settle()
    assert (only_b.done(), anywhere.done()) == (True, False)
    anywhere.cancel()


async def test_new_replicas_are_for_those_who_wait() -> None:
    release = Release(A)
    await release.take()
    waiting = [release.wait(), release.wait()]
    await settle()
    release.replicas = (A, B)
    release.queues.refresh()
    await settle()
    assert [task.done() for task in waiting] == [True, False]
    waiting[1].cancel()


async def test_who_waits_gets_a_replica_that_is_in_again_though_nothing_was_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "LOOK_AGAIN_S", 0.001)
    release = Release(A, B)
    held_a, held_b = await release.take(), await release.take()
    release.balancer.failed(held_a, at_once=True)
    release.give_back(held_a)
    waiting = [release.wait(), release.wait()]
    await asyncio.sleep(0.01)
    assert not any(task.done() for task in waiting)
    release.now_s = 61.0
    turn = await asyncio.wait_for(waiting[0], timeout=5)
    assert (turn.replica.id, turn.on_trial) == (held_a.replica.id, True)
    assert not waiting[1].done()
    for task in waiting:
        task.cancel()
    assert held_b.replica is B
    await asyncio.sleep(0.01)
    assert release.queues._looking is None, "nobody waits, so nobody looks"


async def test_nobody_waits_for_a_release_that_is_gone_or_whose_replicas_are_all_out() -> None:
    release = Release(A)
    held = await release.take()
    waiting = [release.wait(), release.wait()]
    await settle()
    release.balancer.failed(held, at_once=True)
    release.give_back(held)
    for task in waiting:
        with pytest.raises(NothingLeft):
            await task
    with pytest.raises(NothingLeft):
        await release.take()

    other = Release(B)
    await other.take()
    waiting = [other.wait()]
    await settle()
    other.replicas = ()
    other.queues.refresh()
    with pytest.raises(NothingLeft):
        await waiting[0]
