"""Times in a request's query."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AwareDatetime, BeforeValidator

_NUMBER = re.compile(r"[+-]?[\d.]+")


def _in_words(value: object) -> object:
    # Pydantic takes a number for seconds since 1970: 20261123120000, which lacks its zone, would be a day in 2612.
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        raise ValueError(f"{value!r} is no time with its zone, such as 2026-11-23T12:00:00Z")
    return value


Moment = Annotated[AwareDatetime, BeforeValidator(_in_words)]
"""A time as ISO 8601 writes it, with its zone."""
