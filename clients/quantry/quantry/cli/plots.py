"""Curves on a terminal, drawn with the dots of Braille characters: two beside each other and four above each other in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

_BLANK = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a Braille character, by row and column (Unicode, block Braille Patterns)."""

_DOT_COLUMNS, _DOT_ROWS = 2, 4


class Dot(NamedTuple):
    """A point of a curve."""

    x: float
    y: float


def plot(dots: Sequence[Dot], *, width: int, height: int) -> list[str]:
    """Returns a curve as ``height`` lines of text with its range of y to the left, and one line with its range of x.

    ``width`` are the characters of the drawing alone. Dots come in the order of x; neighbours are joined. Empty where there are none.
    """
    if not dots:
        return []
    low, high = min(dot.y for dot in dots), max(dot.y for dot in dots)
    begin, end = dots[0].x, dots[-1].x
    columns, rows = width * _DOT_COLUMNS, height * _DOT_ROWS
    places = [(_scaled(dot.x, begin, end, columns), rows - 1 - _scaled(dot.y, low, high, rows)) for dot in dots]
    cells = [[_BLANK] * width for _ in range(height)]
    for place, following in zip(places, [*places[1:], places[-1]], strict=True):
        for column, row in _line(place, following):
            cells[row // _DOT_ROWS][column // _DOT_COLUMNS] |= _DOTS[row % _DOT_ROWS][column % _DOT_COLUMNS]
    labels = [number_text(high), *[""] * (height - 2), number_text(low)] if height > 1 else [number_text(high)]
    margin = max(map(len, labels))
    drawn = [f"{label:>{margin}} {''.join(map(chr, line))}".rstrip() for label, line in zip(labels, cells, strict=True)]
    first, last = number_text(begin), number_text(end)
    return [*drawn, f"{'':{margin}} {first}{last:>{max(len(last) + 1, width - len(first))}}"]


def number_text(value: float) -> str:
    """Returns a number of a curve in few characters: 2.314, 0.0002, 12500."""
    return f"{value:.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.4g}"


def _scaled(value: float, low: float, high: float, number: int) -> int:
    """Returns which of ``number`` places between ``low`` and ``high`` a value lies at; the middle where the two are one."""
    return (number - 1) // 2 if high <= low else round((value - low) / (high - low) * (number - 1))


def _line(start: tuple[int, int], end: tuple[int, int]) -> list[tuple[int, int]]:
    """Returns the dots of a straight line, both ends included."""
    num_steps = max(abs(end[0] - start[0]), abs(end[1] - start[1]), 1)
    return [
        (round(start[0] + (end[0] - start[0]) * step / num_steps), round(start[1] + (end[1] - start[1]) * step / num_steps))
        for step in range(num_steps + 1)
    ]
