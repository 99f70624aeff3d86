# Made from quantry/aio/paging.py by make_sync.py: change that file, and run this again.
"""From pages to everything: the next page is asked for when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from quantry_core.pages import MAX_LIMIT, Page

T = TypeVar("T")


def every(page_after: Callable[[str | None, int], Page[T]], max_items: int | None) -> Generator[T, None, None]:
    """Yields the items of all pages, ``max_items`` of them at most (None: all). ``page_after`` is given a cursor and a number of items."""
    after: str | None = None
    num_left = max_items
    while num_left is None or num_left > 0:
        page = page_after(after, MAX_LIMIT if num_left is None else min(MAX_LIMIT, num_left))
        yield from page.data
        num_left = None if num_left is None else num_left - len(page.data)
        if not page.has_more or page.last_id is None:
            return
        after = page.last_id
