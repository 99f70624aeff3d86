"""Curves drawn with characters."""

from __future__ import annotations

import pytest

from quantry.cli.plots import Dot, number_text, plot


def num_dots(line: str) -> int:
    return sum((ord(character) - 0x2800).bit_count() for character in line if 0x2800 <= ord(character) < 0x2900)


def test_a_falling_line_goes_from_the_upper_left_to_the_lower_right() -> None:
    # 2 characters are 4 dots wide, 1 line is 4 dots high: the diagonal.
    *drawn, axis = plot([Dot(x, -x) for x in range(4)], width=2, height=1)
    assert drawn == ["0 \u2811\u2884"]
    assert axis.split() == ["0", "3"]


def test_a_drawing_is_as_large_as_was_asked_and_says_its_ranges() -> None:
    lines = plot([Dot(step, 3.0 / step) for step in range(1, 101)], width=40, height=6)
    assert len(lines) == 7
    assert lines[0].split()[0] == "3"
    assert lines[5].split()[0] == "0.03"
    assert lines[6].split() == ["1", "100"]
    assert max(len(line) for line in lines) == len("0.03 ") + 40
    assert [num_dots(line) > 0 for line in lines] == [True] * 6 + [False]


def test_neighbours_are_joined() -> None:
    lines = plot([Dot(0, 0), Dot(1, 1)], width=10, height=5)
    assert sum(num_dots(line) for line in lines) == 20


@pytest.mark.parametrize("dots", [[Dot(3, 2.5)], [Dot(1, 2.5), Dot(2, 2.5)]])
def test_what_does_not_change_is_drawn_in_the_middle(dots: list[Dot]) -> None:
    lines = plot(dots, width=4, height=3)
    assert [num_dots(line) > 0 for line in lines] == [False, True, False, False]


def test_nothing_is_drawn_of_nothing() -> None:
    assert plot([], width=10, height=5) == []


@pytest.mark.parametrize(("value", "text"), [(2.31415, "2.314"), (0.0002, "0.0002"), (12500.4, "12500"), (3.0, "3"), (-0.5, "-0.5")])
def test_numbers_are_short(value: float, text: str) -> None:
    assert number_text(value) == text
