"""What a page shows until the thing it is about has come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nicegui import Client, ui

from quantry_dashboard.asking import NotDone
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.arriving import Arriving


class _Page:
    """A page without a browser, whose timer only notes that it was stopped."""

    def __init__(self) -> None:
        self.is_asking = True
        self.arriving = Arriving(cast(Frame, SimpleNamespace(refresh_every=self._refresh_every)))
        self.body = self.arriving.add_body("job version")
        self.arriving.refresh_every(5.0, self._refresh)

    def _refresh_every(self, _interval_s: float, _refresh: Callable[[], Awaitable[None]]) -> Any:
        return SimpleNamespace(deactivate=self._stop)

    async def _refresh(self) -> None:
        raise AssertionError("nothing calls it here")

    def _stop(self) -> None:
        self.is_asking = False

    def shown(self) -> list[str]:
        """Returns what of the two is shown, in the order of the page."""
        parent = self.body.parent_slot
        assert parent is not None
        nodes = [node for node in parent.children if isinstance(node, Node)]
        return [node.text or "the body" for node in nodes if node.props.get("hidden") is None]


@pytest.fixture
def page() -> Iterator[_Page]:
    client = Client(ui.page("/"), request=None)
    with client:
        yield _Page()
    client.delete()


def test_the_body_stands_in_place_of_the_line_once_the_thing_has_come(page: _Page) -> None:
    assert page.shown() == ["Loading…"]
    page.arriving.come()
    assert page.shown() == ["the body"]
    assert page.is_asking


def test_what_is_read_is_handed_on_and_shown_by_nobody_else(page: _Page) -> None:
    async def read() -> str:
        return "bard-6m@2"

    assert asyncio.run(page.arriving.read(read())) == "bard-6m@2"
    assert page.shown() == ["Loading…"]


@pytest.mark.parametrize(("status", "is_asking"), [(404, False), (503, True), (None, True)])
def test_what_does_not_come_is_not_loading_and_what_does_not_exist_is_not_asked_for_again(
    page: _Page, status: int | None, is_asking: bool
) -> None:
    async def fail() -> str:
        raise NotDone("No.", status=status)

    with pytest.raises(NotDone, match=r"No\."):
        asyncio.run(page.arriving.read(fail()))
    assert page.shown() == []
    assert page.is_asking is is_asking
