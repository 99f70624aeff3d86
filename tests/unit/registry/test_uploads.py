"""Bodies that stop coming, and more uploads than may be at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from threading import Event

import pytest

from quantry_core.errors import BodyStalled, Unavailable
from quantry_registry.uploads.bodies import BodyReader
from quantry_registry.uploads.slots import UploadSlots


async def test_a_body_that_stops_coming_is_given_up() -> None:
    async def stalled() -> AsyncIterator[bytes]:
        yield b"some"
        await asyncio.Event().wait()

    reader = BodyReader(stalled(), asyncio.get_running_loop(), None, idle_s=0.01)
    assert await asyncio.to_thread(reader.read, 10) == b"some"
    with pytest.raises(BodyStalled, match="nothing of the body came"):
        await asyncio.to_thread(reader.read, 10)


async def test_a_slow_body_is_not_a_stalled_one() -> None:
    async def slow() -> AsyncIterator[bytes]:
        for _ in range(5):
            await asyncio.sleep(0.02)
            yield b"x"

    reader = BodyReader(slow(), asyncio.get_running_loop(), None, idle_s=1)
    read = [await asyncio.to_thread(reader.read, 10) for _ in range(6)]
    assert read == [b"x"] * 5 + [b""]


async def test_stalled_uploads_take_no_thread_of_others_and_more_are_refused() -> None:
    slots, may_end = UploadSlots(2), Event()
    stalled = [asyncio.create_task(slots.run(partial(may_end.wait, 10))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="2 files are being uploaded"):
        await slots.run(lambda: True)
    assert await asyncio.to_thread(lambda: "a download") == "a download"
    may_end.set()
    assert await asyncio.gather(*stalled) == [True, True]
    assert await slots.run(lambda: "the next") == "the next"


async def test_a_slot_is_free_when_its_thread_is_whoever_has_left() -> None:
    slots, is_inside, may_end = UploadSlots(1), Event(), Event()

    def work() -> None:
        is_inside.set()
        may_end.wait(10)

    left = asyncio.create_task(slots.run(work))
    assert await asyncio.to_thread(is_inside.wait, 10)
    left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await left
    with pytest.raises(Unavailable):
        await slots.run(lambda: None)
    may_end.set()
    async with asyncio.timeout(10):
        while True:
            try:
                await slots.run(lambda: None)
                return
            except Unavailable:
                await asyncio.sleep(0.001)
