"""What the client that waits does otherwise than the asynchronous one: it sleeps, and what takes long it simply does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Sleep = Callable[[float], object]
"""Waits for so many seconds."""

sleep: Sleep = time.sleep


def off_loop(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Returns what ``work`` returns. There is no event loop that it could hold up."""
    return work(*args, **kwargs)
