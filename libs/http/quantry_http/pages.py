"""Query parameters of every list endpoint."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict

from quantry_core.pages import DEFAULT_LIMIT, MAX_LIMIT

_ID_PATTERN = r"^[a-z]{3}_[0-9a-f]{32}$"


class PageQuery(BaseModel):
    """Where a page begins and how long it may be."""

    model_config = ConfigDict(frozen=True)

    after: str | None
    limit: int


async def page_query(
    after: Annotated[str | None, Query(pattern=_ID_PATTERN, description="The last_id of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Items of one page, at most.")] = DEFAULT_LIMIT,
) -> PageQuery:
    """Returns the page asked for."""
    return PageQuery(after=after, limit=limit)


PageParams = Annotated[PageQuery, Depends(page_query)]
"""``after`` and ``limit`` of a list endpoint."""
