"""Ctrl-C, SIGTERM and SIGHUP while a command runs: they end it in order, and cannot end the orderly end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Somebody asked the command to end. Like KeyboardInterrupt, not an Exception: nothing may take it for a failure."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number
        self.outcome: str | None = None
        """Set by whoever stopped something because of it: what is now so, for people."""


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    del frame
    raise Interrupted(number)


@contextmanager
def raising_interrupted() -> Iterator[None]:
    """Within it, each of the signals raises Interrupted in the main thread."""
    yield from _handled_by(_raise)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within it, the signals are ignored: what it holds is short and must be finished."""
    yield from _handled_by(signal.SIG_IGN)


def _handled_by(handler: signal._HANDLER) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
