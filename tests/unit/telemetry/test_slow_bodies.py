"""How long a body may take, by a clock that is moved by hand."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message

from quantry_core.errors import BodyStalled
from quantry_telemetry.slow_bodies import MIN_PIECE_BYTES, BodyPace


class Body:
    """A body that comes in pieces of one size, each some seconds after its reader asked."""

    def __init__(self, piece_bytes: int, piece_s: float, *, wait_s: float, is_streamed: bool) -> None:
        self.now_s = 0.0
        self._piece_bytes = piece_bytes
        self._piece_s = piece_s
        self._pace = BodyPace(wait_s=wait_s, is_streamed=is_streamed, clock_s=lambda: self.now_s)

    async def read(self, num_pieces: int) -> None:
        for _ in range(num_pieces):
            await self._pace.next(self._piece)

    async def _piece(self) -> Message:
        for _ in range(3):
            await asyncio.sleep(0)
        self.now_s += self._piece_s
        return {"type": "http.request", "body": b"x" * self._piece_bytes, "more_body": True}


async def nothing() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("is_streamed", [False, True])
async def test_a_body_that_stops_coming_is_given_up(is_streamed: bool) -> None:
    with pytest.raises(BodyStalled, match=r"0\.01 s"):
        await BodyPace(wait_s=0.01, is_streamed=is_streamed).next(nothing)


async def test_somebody_elses_cancellation_is_not_taken_for_the_clients_fault() -> None:
    reading = asyncio.create_task(BodyPace(wait_s=30, is_streamed=False).next(nothing))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_a_byte_now_and_then_keeps_no_body_open() -> None:
    body = Body(1, 5, wait_s=30, is_streamed=True)
    await body.read(6)
    with pytest.raises(BodyStalled, match="30 s"):
        await body.read(1)


async def test_pieces_of_a_stream_have_their_time_each_and_those_of_a_document_together() -> None:
    await Body(MIN_PIECE_BYTES, 5, wait_s=30, is_streamed=True).read(100)
    document = Body(MIN_PIECE_BYTES, 5, wait_s=30, is_streamed=False)
    await document.read(6)
    with pytest.raises(BodyStalled):
        await document.read(1)


async def test_what_its_reader_does_meanwhile_does_not_count() -> None:
    body = Body(1, 1, wait_s=30, is_streamed=False)
    for _ in range(20):
        await body.read(1)
        body.now_s += 1000
