"""From pages to everything: the next page is asked for when it is needed."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

from quantry_core.pages import MAX_LIMIT, Page

T = TypeVar("T")


async def every(page_after: Callable[[str | None, int], Awaitable[Page[T]]], max_items: int | None) -> AsyncGenerator[T, None]:
    """Yields the items of all pages, ``max_items`` of them at most (None: all). ``page_after`` is given a cursor and a number of items."""
    after: str | None = None
    num_left = max_items
    while num_left is None or num_left > 0:
        page = await page_after(after, MAX_LIMIT if num_left is None else min(MAX_LIMIT, num_left))
        for item in page.data:
            yield item
        num_left = None if num_left is None else num_left - len(page.data)
        if not page.has_more or page.last_id is None:
            return
        after = page.last_id
