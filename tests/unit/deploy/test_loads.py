"""Adapters asked for in the background: once at a time, with a rest after each refusal, and remembered for as long as an engine runs."""

from __future__ import annotations

import asyncio
from pathlib import Path

from quantry_deploy.drivers.loads import Loads

URL = "http://127.0.0.1:8001"


class Engine:
    """Answers what the test says, once the test says so, and lists what it loaded."""

    def __init__(self) -> None:
        self.answers: asyncio.Queue[str] = asyncio.Queue()
        self.listed: dict[str, str] | None = {}
        self.asked: list[tuple[str, str]] = []

    async def adapters(self, url: str) -> dict[str, str] | None:
        assert url == URL
        return self.listed

    async def load_adapter(self, url: str, name: str, folder: Path) -> str:
        self.asked.append((name, folder.name))
        refusal = await self.answers.get()
        if not refusal and self.listed is not None:
            self.listed[name] = str(folder)
        return refusal

    async def unload_adapter(self, url: str, name: str) -> str:
        self.asked.append((name, ""))
        return await self.answers.get()


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def make(tmp_path: Path) -> tuple[Loads, Engine, Clock]:
    engine, clock = Engine(), Clock()
    return Loads(engine, tmp_path, clock=clock), engine, clock


def load(loads: Loads, digest: str = "abc", pid: int = 7) -> None:
    loads.load("rep_1", pid, URL, "pirate", digest)


async def a_moment() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_slow_load_is_waited_for_by_nobody_and_asked_once(tmp_path: Path) -> None:
    loads, engine, _ = make(tmp_path)
    for _ in range(3):
        load(loads)
        await a_moment()
    look = await loads.look("rep_1", 7, URL)
    assert look is not None
    assert (engine.asked, look.listed, set(look.resting)) == ([("pirate", "abc")], {}, {"pirate"})
    engine.answers.put_nowait("")
    await a_moment()
    look = await loads.look("rep_1", 7, URL)
    assert look is not None
    assert (look.listed, look.refusals, set(look.resting)) == ({"pirate": "abc"}, {}, set())


async def test_a_refusal_rests_longer_each_time_and_other_files_are_tried_at_once(tmp_path: Path) -> None:
    loads, engine, clock = make(tmp_path)
    rests_s = []
    for _ in range(6):
        load(loads)
        engine.answers.put_nowait("no kernel")
        await a_moment()
        look = await loads.look("rep_1", 7, URL)
        assert look is not None
        assert look.refusals == {"pirate": "no kernel"}
        began_s = clock.now_s
        while look is not None and look.resting:
            num_asked = len(engine.asked)
            load(loads)
            await a_moment()
            assert len(engine.asked) == num_asked
            clock.now_s += 1
            look = await loads.look("rep_1", 7, URL)
        rests_s.append(clock.now_s - began_s)
    assert rests_s == [5, 10, 20, 40, 60, 60]
    load(loads)
    engine.answers.put_nowait("no kernel")
    await a_moment()
    load(loads, "other")
    engine.answers.put_nowait("")
    await a_moment()
    look = await loads.look("rep_1", 7, URL)
    assert look is not None
    assert (look.listed, look.refusals) == ({"pirate": "other"}, {})


async def test_what_is_listed_from_elsewhere_is_shown_by_its_folder(tmp_path: Path) -> None:
    loads, engine, _ = make(tmp_path)
    engine.listed = {"mine": str(tmp_path / "abc"), "foreign": "/elsewhere/abc"}
    look = await loads.look("rep_1", 7, URL)
    assert look is not None
    assert look.listed == {"mine": "abc", "foreign": "/elsewhere/abc"}
    engine.listed = None
    assert await loads.look("rep_1", 7, URL) is None


async def test_the_files_an_engine_was_given_are_known_until_it_is_gone(tmp_path: Path) -> None:
    loads, engine, _ = make(tmp_path)
    load(loads)
    engine.answers.put_nowait("")
    await a_moment()
    loads.unload("rep_1", 7, URL, "pirate")
    engine.answers.put_nowait("")
    await a_moment()
    assert engine.asked == [("pirate", "abc"), ("pirate", "")]
    assert loads.given_digests() == {"abc"}
    loads.forget("rep_1")
    assert loads.given_digests() == set()


async def test_closing_gives_up_what_goes_on(tmp_path: Path) -> None:
    loads, engine, _ = make(tmp_path)
    load(loads)
    await a_moment()
    await loads.close()
    assert engine.asked == [("pirate", "abc")]
