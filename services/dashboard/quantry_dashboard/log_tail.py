"""The end of a log, read again and again: what is new since the last time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

MAX_FOUND = 400


def appended(shown: Sequence[str], latest: Sequence[str]) -> list[str] | None:
    """Returns the lines of ``latest`` that follow on those shown; None where the two share no line, so that all must be replaced.

    Both are the last lines of one text that only grows, at two moments.
    """
    if not shown:
        return list(latest)
    for start in range(len(shown)):
        num_shared = len(shown) - start
        if num_shared <= len(latest) and list(shown[start:]) == list(latest[:num_shared]):
            return list(latest[num_shared:])
    return None


class Found(NamedTuple):
    """Lines that a search found, each behind its number, and how many there are in words."""

    lines: list[str]
    said: str


def searched(text: str, wanted: str) -> Found:
    """Returns the last MAX_FOUND lines of a text in which ``wanted`` stands, large and small letters taken alike."""
    folded = wanted.casefold()
    lines = [f"{number}: {line}" for number, line in enumerate(text.splitlines(), start=1) if folded in line.casefold()]
    said = "no line has it" if not lines else "1 line has it" if len(lines) == 1 else f"{len(lines)} lines have it"
    return Found(lines[-MAX_FOUND:], said if len(lines) <= MAX_FOUND else f"{said}; the last {MAX_FOUND}")
