"""Cursor pages: how the control plane answers lists that grow."""

from __future__ import annotations

from typing import Generic, TypeVar

from pydantic import BaseModel, Field

T = TypeVar("T")

DEFAULT_LIMIT = 20
MAX_LIMIT = 100


class Page(BaseModel, Generic[T]):
    """One page, newest first. Ask for the next one with ``after=<last_id>`` while ``has_more`` is true."""

    data: list[T]
    has_more: bool = False
    first_id: str | None = Field(default=None, description="Id of the first item.")
    last_id: str | None = Field(default=None, description="Id of the last item; the cursor of the next page.")
