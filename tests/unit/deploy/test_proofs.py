"""Proofs in the background: nobody waits for one, a doubt is asked again, a proof is asked once."""

from __future__ import annotations

import asyncio

from quantry_deploy.drivers.probes import Target
from quantry_deploy.drivers.proofs import Proofs

TARGET = Target("http://127.0.0.1:8001", "chat", mark="rep_1")


class Engine:
    """Answers what the test says, once the test says so."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[str | Exception] = asyncio.Queue()
        self.num_asked = 0

    async def doubt(self, target: Target) -> str:
        assert target == TARGET
        self.num_asked += 1
        answer = await self.answers.get()
        if isinstance(answer, Exception):
            raise answer
        return answer


def ask(proofs: Proofs, pid: int = 7) -> None:
    proofs.ask("rep_1", pid, TARGET)


async def a_moment() -> None:
    """Lets what can go on in the background go on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_slow_proof_is_waited_for_by_nobody_and_asked_once() -> None:
    engine = Engine()
    proofs = Proofs(engine)
    for _ in range(3):
        ask(proofs)
        await a_moment()
        assert not proofs.is_proven("rep_1", 7)
    assert engine.num_asked == 1
    engine.answers.put_nowait("")
    await a_moment()
    assert proofs.is_proven("rep_1", 7)
    ask(proofs)
    await a_moment()
    assert engine.num_asked == 1
    assert not proofs.is_proven("rep_1", 8)


async def test_a_quick_answer_is_waited_for_and_a_slow_one_for_a_moment() -> None:
    engine = Engine()
    proofs = Proofs(engine)
    await proofs.settle("rep_1", 7, within_s=60)
    ask(proofs)
    await proofs.settle("rep_1", 7, within_s=0.001)
    assert not proofs.is_proven("rep_1", 7)
    asyncio.get_running_loop().call_later(0.001, engine.answers.put_nowait, "")
    await proofs.settle("rep_1", 7, within_s=60)
    assert proofs.is_proven("rep_1", 7)
    assert engine.num_asked == 1


async def test_a_doubt_stays_until_the_next_answer() -> None:
    engine = Engine()
    proofs = Proofs(engine)
    for answer, doubt in (("no choice", "no choice"), (ValueError("odd"), "a completion of one token failed: ValueError('odd')")):
        ask(proofs)
        engine.answers.put_nowait(answer)
        await a_moment()
        assert proofs.doubt("rep_1", 7) == doubt
    ask(proofs)
    await a_moment()
    assert proofs.doubt("rep_1", 7).endswith("ValueError('odd')")
    engine.answers.put_nowait("")
    await a_moment()
    assert (proofs.is_proven("rep_1", 7), proofs.doubt("rep_1", 7)) == (True, "")


async def test_a_replica_that_is_gone_is_forgotten_and_asked_no_more() -> None:
    engine = Engine()
    proofs = Proofs(engine)
    ask(proofs)
    await a_moment()
    proofs.forget("rep_1")
    await a_moment()
    engine.answers.put_nowait("")
    await a_moment()
    assert not proofs.is_proven("rep_1", 7)
    assert engine.answers.qsize() == 1
    ask(proofs, pid=8)
    await proofs.close()
    assert not proofs.is_proven("rep_1", 8)
