"""What is drawn of both releases over time, and said of it."""

from __future__ import annotations

import pytest

from factories.serving import NOW, ROLLOUT_ID, spans
from quantry_core.traffic_spans import RolloutSpans
from quantry_dashboard.chart_parts import milliseconds
from quantry_dashboard.traffic_charts import CHARTS, Drawn, chart_options, chart_text, has_figures

FAILED, MEDIAN, P95 = CHARTS


def test_each_release_has_a_line_and_a_band_around_it() -> None:
    series = {one["name"]: one for one in chart_options(FAILED, spans())["series"]}
    assert set(series) == {"stable", "stable from", "stable to", "candidate", "candidate from", "candidate to"}
    at, value = series["candidate"]["data"][2]["value"]
    assert at == milliseconds(NOW) + 10_000
    assert value == pytest.approx(100 * 2 / 26)
    low, width = series["candidate from"]["data"][2][1], series["candidate to"]["data"][2][1]
    assert low < value < low + width
    assert series["candidate from"]["stack"] == series["candidate to"]["stack"] != series["stable to"]["stack"]


def test_a_band_that_is_not_known_is_left_open() -> None:
    series = {one["name"]: one for one in chart_options(P95, spans())["series"]}
    assert [width for _, width in series["candidate to"]["data"]] == [None, None, None], "24 answers are too few"
    assert None not in [width for _, width in series["stable to"]["data"]]


@pytest.mark.parametrize("num_spans", [1, 3])
def test_the_axis_of_time_holds_the_spans_and_no_more(num_spans: int) -> None:
    time = chart_options(FAILED, spans(num_spans))["xAxis"]
    assert (time["min"], time["max"]) == (milliseconds(NOW), milliseconds(NOW) + 5_000 * num_spans)


def test_a_first_release_is_alone() -> None:
    options = chart_options(MEDIAN, spans(stable=None))
    assert options["legend"]["data"] == ["candidate"]


@pytest.mark.parametrize(
    ("drawn", "text"),
    [
        (
            FAILED,
            "Failed of both releases over time, in spans of 5 s; stable lately 0.00% (0.00% to 1.58%); "
            "candidate lately 7.69% (2.14% to 24.14%)",
        ),
        (
            P95,
            "Answer, p95 of both releases over time, in spans of 5 s; stable lately 980 ms (980 ms to 980 ms); "
            "candidate lately 1.20 s (at least 606 ms)",
        ),
    ],
)
def test_a_chart_is_said_in_words(drawn: Drawn, text: str) -> None:
    assert chart_text(drawn, spans()) == text


def test_without_requests_there_is_nothing_to_draw() -> None:
    assert not has_figures(RolloutSpans(rollout_id=ROLLOUT_ID, since=NOW, stable=[]))
