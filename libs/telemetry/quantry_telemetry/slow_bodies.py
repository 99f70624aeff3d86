"""Bodies that come slowly, or stop coming: who reads one waits so long for its client, and no longer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

from starlette.types import Message, Receive

from quantry_core.errors import BodyStalled

MIN_PIECE_BYTES = 4096
"""A body that is passed on as it comes begins its time anew with so many bytes, so that a byte now and then does not keep it open."""


class BodyPace:
    """What is left of a reader's patience with one body. Only the time in which it waits counts, not what it does with the bytes."""

    def __init__(self, *, wait_s: float, is_streamed: bool, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._wait_s = wait_s
        self._left_s = wait_s
        self._is_streamed = is_streamed
        self._num_bytes = 0
        self._clock_s = clock_s
        self._has_given_up = False

    async def next(self, receive: Receive) -> Message:
        """Returns the next message; raises BodyStalled where the client kept its reader waiting for too long.

        That is ``wait_s`` seconds: of the whole body, or of each few kilobytes where it is streamed.
        """
        # By hand, because nearly every body is here already: asyncio.timeout would cost more than all else that is done to read it.
        reading = cast("asyncio.Task[Any]", asyncio.current_task())
        num_before = reading.cancelling()
        began_s = self._clock_s()
        timer = asyncio.get_running_loop().call_later(max(self._left_s, 0.0), self._give_up, reading)
        try:
            message = await receive()
        except asyncio.CancelledError:
            if self._has_given_up and reading.uncancel() <= num_before:
                raise BodyStalled(self._words()) from None
            raise
        finally:
            timer.cancel()
        self._left_s -= self._clock_s() - began_s
        if self._is_streamed:
            self._num_bytes += len(message.get("body", b""))
            if self._num_bytes >= MIN_PIECE_BYTES:
                self._num_bytes, self._left_s = 0, self._wait_s
        return message

    def _give_up(self, reading: asyncio.Task[Any]) -> None:
        self._has_given_up = True
        reading.cancel()

    def _words(self) -> str:
        if self._is_streamed:
            return f"nothing to speak of came of the body for {self._wait_s:g} s; send it again"
        return f"the body was not here after {self._wait_s:g} s; send it again"
