"""What a page shows of the one thing it is about while that has not come, once it has, and where it does not exist."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from nicegui import ui

from quantry_dashboard.asking import NotDone
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node

T = TypeVar("T")


class Arriving:
    """A line that says it is loading, and a body that is hidden until ``come``. Build both within the frame's content."""

    def __init__(self, frame: Frame) -> None:
        """Adds the line."""
        self._frame = frame
        self._loading = Node("p", "Loading…", classes="dim", role="status")

    def add_body(self, classes: str = "job") -> Node:
        """Adds the body, hidden, and returns it: what the page shows of the thing goes within."""
        self._body = Node("div", classes=classes, hidden="hidden")
        return self._body

    def refresh_every(self, interval_s: float, refresh: Callable[[], Awaitable[None]]) -> ui.timer:
        """Calls ``refresh`` as the frame does, until a ``read`` finds that the thing does not exist."""
        self._timer = self._frame.refresh_every(interval_s, refresh)
        return self._timer

    async def read(self, reading: Awaitable[T]) -> T:
        """Returns what is read. Raises what the reading raises: it is not loading any more then, and a banner says why."""
        try:
            return await reading
        except NotDone as trouble:
            self._loading.show_if(False)
            if trouble.is_missing:
                self._timer.deactivate()
            raise

    def come(self) -> None:
        """Shows the body in place of the line."""
        self._loading.show_if(False)
        self._body.show_if(True)
