"""A database that is away."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Any


class AwayDatabase:
    """Counts how often it was asked; never answers. Sets ``asked_enough`` at the third time."""

    def __init__(self, error: Exception) -> None:
        self.num_asked = 0
        self.asked_enough = asyncio.Event()
        self._error = error

    def begin(self) -> AbstractAsyncContextManager[Any]:
        self.num_asked += 1
        if self.num_asked == 3:
            self.asked_enough.set()
        raise self._error
