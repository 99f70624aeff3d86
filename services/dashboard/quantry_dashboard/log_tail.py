"""The end of a log, read again and again: what is new since the last time."""

from __future__ import annotations

from collections.abc import Sequence


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
