"""Threads for uploads alone: a client that sends slowly holds one of these for hours, and none that anything else needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from threading import BoundedSemaphore
from typing import TypeVar

from quantry_core.errors import Unavailable

Result = TypeVar("Result")


class UploadSlots:
    """Runs as many blocking calls at once as there are slots, and refuses more."""

    def __init__(self, num_slots: int) -> None:
        self._num_slots = num_slots
        self._free = BoundedSemaphore(num_slots)
        self._threads = ThreadPoolExecutor(num_slots, thread_name_prefix="upload")

    async def run(self, work: Callable[[], Result]) -> Result:
        """Returns what ``work`` returns, called in a thread; raises Unavailable at once where every slot is taken.

        The slot is free again when the thread is, also where nobody waits for it any more.
        """
        if not self._free.acquire(blocking=False):
            raise Unavailable(f"{self._num_slots} files are being uploaded, as many as may be at once; send this one again later")
        working = self._threads.submit(copy_context().run, work)
        working.add_done_callback(lambda _: self._free.release())
        return await asyncio.wrap_future(working)
