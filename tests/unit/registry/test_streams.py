from __future__ import annotations

import asyncio
from collections.abc import Generator
from threading import Event

import pytest

from quantry_registry.streams import open_stream


def made_of(*chunks: bytes) -> Generator[bytes, None, None]:
    yield from chunks


def broken_after(*chunks: bytes) -> Generator[bytes, None, None]:
    yield from chunks
    raise OSError("the line broke")


async def test_chunks_come_in_order() -> None:
    stream = await open_stream(made_of(b"a", b"b", b"c"))
    assert [chunk async for chunk in stream] == [b"a", b"b", b"c"]


async def test_no_chunk_is_an_empty_stream() -> None:
    assert [chunk async for chunk in await open_stream(made_of())] == []


async def test_what_goes_wrong_first_is_raised_before_the_stream() -> None:
    with pytest.raises(OSError, match="the line broke"):
        await open_stream(broken_after())


async def test_what_goes_wrong_later_ends_the_stream() -> None:
    stream = await open_stream(broken_after(b"a"))
    assert await anext(stream) == b"a"
    with pytest.raises(OSError, match="the line broke"):
        await anext(stream)


async def test_a_reader_that_leaves_while_a_chunk_is_awaited_gives_the_connection_back() -> None:
    is_inside, may_go_on, is_closed = Event(), Event(), Event()

    def slow() -> Generator[bytes, None, None]:
        try:
            yield b"a"
            is_inside.set()
            may_go_on.wait(10)
            yield b"b"
        finally:
            is_closed.set()

    async def read() -> list[bytes]:
        return [chunk async for chunk in stream]

    stream = await open_stream(slow())
    reading = asyncio.create_task(read())
    assert await asyncio.to_thread(is_inside.wait, 10)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not is_closed.is_set()
    may_go_on.set()
    assert await asyncio.to_thread(is_closed.wait, 10)
