"""The one thing that the main process and the pool processes share: the wish to stop."""

from __future__ import annotations

import os
import select
from contextlib import suppress


class Drain:
    """A flag that every process forked after its creation sees, and that a signal handler may raise.

    It is a pipe: a byte in it means stop. Nobody reads the byte, so that all see it. A lock or an Event of
    multiprocessing could be held by the very code that the signal interrupted.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    def request(self) -> None:
        """Raises the flag. Safe in a signal handler, any number of times."""
        with suppress(BlockingIOError):
            os.write(self._writer, b"!")

    def is_requested(self) -> bool:
        """Tells whether somebody raised the flag."""
        return bool(select.select([self._reader], [], [], 0)[0])
