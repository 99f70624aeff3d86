from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest

from quantry_blobs.clock import StoreClock, ahead_or_behind, http_date, signed_ahead_s

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(("offset_s", "words"), [(7200, "7200 s ahead of"), (-7200, "7200 s behind")])
def test_it_goes_by_the_store_once_it_was_told(caplog: pytest.LogCaptureFixture, offset_s: int, words: str) -> None:
    here = [NOON.timestamp() + offset_s]
    clock = StoreClock(lambda: here[0])
    assert (clock.now().timestamp(), clock.ahead_s) == (here[0], 0.0)
    with caplog.at_level(logging.WARNING):
        clock.set_by(NOON)
    assert (clock.now(), clock.ahead_s) == (NOON, -offset_s)
    assert f"this machine's clock is {words} the object store's" in caplog.text
    here[0] += 30
    assert (clock.now() - NOON).total_seconds() == 30


@pytest.mark.parametrize(
    ("signed", "store_time", "elapsed_s", "expected_s"),
    [
        ("20260301T140000Z", NOON, 0.0, 7200.0),
        ("20260301T100000Z", NOON, 0.0, -7200.0),
        ("20260228T115900Z", NOON, 0.0, -86_460.0),
        # A slow upload: its time was right when it was signed.
        ("20260301T114000Z", NOON, 1200.0, 0.0),
        (None, NOON, 0.0, 0.0),
        ("20260301T140000Z", None, 0.0, 0.0),
    ],
)
def test_how_far_a_request_was_ahead(signed: str | None, store_time: datetime | None, elapsed_s: float, expected_s: float) -> None:
    assert signed_ahead_s(signed, store_time, elapsed_s) == expected_s


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("Sun, 01 Mar 2026 12:00:00 GMT", NOON),
        ("Sun, 01 Mar 2026 13:00:00 +0100", NOON),
        ("Sun, 01 Mar 2026 12:00:00 -0000", NOON),
        ("yesterday", None),
        ("Sun, 99 Mar 2026 12:00:00 GMT", None),
        ("", None),
        (None, None),
    ],
)
def test_the_date_of_an_answer(header: str | None, expected: datetime | None) -> None:
    assert http_date(header) == expected


def test_a_difference_in_words() -> None:
    assert (ahead_or_behind(90.4), ahead_or_behind(-90.4)) == ("90 s ahead of", "90 s behind")
