"""How people refer to things: names checked at use, ``name@selector`` parsed, and sentences that help when nothing is found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from quantry_core.errors import InvalidName
from quantry_core.names import check_name, is_number

MAX_LISTED = 10
MAX_INTEGER = 2**31 - 1
"""Largest value of a Postgres integer column; a caller's number beyond it names nothing."""


class NameRef(NamedTuple):
    """``name`` alone, ``name@3`` or ``name@production``: at most one of number and alias is set."""

    name: str
    number: int | None
    alias: str | None


def require_name(name: str) -> str:
    """Returns ``name`` unchanged; raises InvalidName saying what is wrong with it."""
    try:
        return check_name(name)
    except ValueError as error:
        raise InvalidName(str(error)) from error


def parse_ref(ref: str) -> NameRef:
    """Returns the parts of a reference by name; raises InvalidName where a part cannot be one."""
    name, at, selector = ref.partition("@")
    require_name(name)
    if not at:
        return NameRef(name, None, None)
    if is_number(selector):
        return NameRef(name, int(selector), None)
    return NameRef(name, None, require_name(selector))


def fits_integer(number: int) -> bool:
    """Tells whether a number that a caller sent can be in an integer column at all."""
    return 0 <= number <= MAX_INTEGER


def choices(names: Sequence[object], *, of: str) -> str:
    """Returns the end of a sentence: what there is instead. ``of`` is the plural noun."""
    if not names:
        return f"there are no {of} yet"
    listed = ", ".join(str(name) for name in names[:MAX_LISTED])
    more = len(names) - MAX_LISTED
    return f"{of} here: {listed}" + (f" and {more} more" if more > 0 else "")
