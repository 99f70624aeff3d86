"""What the asynchronous client does otherwise than the one that waits: it lets others run meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

Sleep = Callable[[float], Awaitable[object]]
"""Waits for so many seconds."""

sleep: Sleep = asyncio.sleep


async def off_loop(work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Returns what ``work`` returns, which runs in a thread: reading and hashing files would hold up the event loop."""
    return await asyncio.to_thread(work, *args, **kwargs)
