"""Size against quality: points, front, and what is said of them."""

from __future__ import annotations

from typing import Any

import pytest

from quantry_core.metrics import Better
from quantry_core.model_views import MeasuredQuality, ModelFigures, VersionFigures
from quantry_core.versions import EvidenceKind, VersionState
from quantry_dashboard.scatter import (
    Measure,
    chart_options,
    chosen_measure,
    interval_text,
    measures,
    pareto_front,
    scatter_of,
    scatter_text,
    value_text,
)

MEASURE = Measure("kjv@1", "bard@1")


def measured(ratio: float, corpus: str = "kjv@1", against: str = "bard@1") -> MeasuredQuality:
    return MeasuredQuality(
        corpus=corpus,
        against_version_id="ver_1",
        against=against,
        kind=EvidenceKind.GATE,
        perplexity_ratio=ratio,
        perplexity_ratio_low=ratio - 0.01,
        perplexity_ratio_high=ratio + 0.01,
        kl_mean_nats=ratio - 1,
        top1_agreement=2 - ratio,
    )


def version(number: int, weights_bytes: int, *quality: MeasuredQuality, **changes: Any) -> VersionFigures:
    fields: dict[str, Any] = {
        "id": f"ver_{number}",
        "number": number,
        "kind": "quantized",
        "state": "ready",
        "format": "compressed-tensors",
        "scheme": "W4A16",
        "dtype": None,
        "size_bytes": weights_bytes,
        "weights_bytes": weights_bytes,
        "bits_per_weight": 4.5,
        "quality": list(quality),
    }
    return VersionFigures.model_validate(fields | changes)


FIGURES = ModelFigures(
    model_name="bard",
    has_more=False,
    data=[
        version(6, 2_000_000, measured(1.2), state="quarantined"),
        version(5, 3_000_000, measured(1.09)),
        version(4, 5_000_000),
        version(3, 4_000_000, measured(1.05), measured(1.3, "plays@1")),
        version(2, 4_000_000, measured(1.04)),
        version(1, 16_000_000, kind="master", scheme=None, dtype="float16", bits_per_weight=None),
    ],
)


def test_the_front_is_of_ready_versions_that_none_beats() -> None:
    scatter = scatter_of(FIGURES, "bytes", "perplexity_ratio", MEASURE)
    assert [point.ref for point in scatter.front] == ["bard@5", "bard@2", "bard@1"]
    assert {point.ref for point in scatter.points} == {"bard@6", "bard@5", "bard@3", "bard@2", "bard@1"}
    assert scatter.num_left_out == 1


def test_where_more_is_better_the_front_turns() -> None:
    points = scatter_of(FIGURES, "bytes", "top1_agreement", MEASURE).points
    assert [point.ref for point in pareto_front(points, Better.HIGHER)] == ["bard@5", "bard@2", "bard@1"]
    assert [point.ref for point in pareto_front(points, Better.LOWER)] == ["bard@5"]


def test_the_reference_stands_where_it_is_by_definition() -> None:
    ideals = {"perplexity_ratio": 1.0, "kl_mean_nats": 0.0, "top1_agreement": 1.0}
    for y, ideal in ideals.items():
        scatter = scatter_of(FIGURES, "bits", y, MEASURE)
        master = next(point for point in scatter.points if point.ref == "bard@1")
        assert (master.x, master.y, master.is_reference) == (16.0, ideal, True)
        assert "the reference itself" in value_text(master)


def test_only_what_was_measured_alike_is_drawn_together() -> None:
    assert measures(FIGURES) == [MEASURE, Measure("plays@1", "bard@1")]
    assert [point.ref for point in scatter_of(FIGURES, "bytes", "kl_mean_nats", Measure("plays@1", "bard@1")).points] == [
        "bard@3",
        "bard@1",
    ]


@pytest.mark.parametrize(
    ("corpus", "against", "chosen"),
    [(None, None, "kjv@1"), ("plays@1", None, "plays@1"), ("plays@1", "other@9", "plays@1"), ("nothing", None, "kjv@1")],
)
def test_an_address_chooses_what_is_measured_on(corpus: str | None, against: str | None, chosen: str) -> None:
    measure = chosen_measure(FIGURES, corpus, against)
    assert measure is not None
    assert measure.corpus == chosen


def test_without_measurements_nothing_is_drawn() -> None:
    figures = ModelFigures(model_name="bard", has_more=False, data=[version(1, 10)])
    scatter = scatter_of(figures, "bytes", "perplexity_ratio", chosen_measure(figures, None, None))
    assert (scatter.points, scatter.front, scatter.num_left_out) == ([], [], 1)
    assert scatter_text(scatter) == "Nothing was measured."


def test_memory_is_of_what_an_engine_was_measured_with() -> None:
    data = [version(2, 1, measured(1.1), memory_peak_bytes=7), FIGURES.data[-2]]
    scatter = scatter_of(FIGURES.model_copy(update={"data": data}), "memory", "perplexity_ratio", MEASURE)
    assert [point.x for point in scatter.points] == [7]


def test_the_chart_has_every_point_once_and_names_the_front() -> None:
    scatter = scatter_of(FIGURES, "bytes", "perplexity_ratio", MEASURE)
    options = chart_options(scatter)
    drawn = {series["name"]: [datum["id"] for datum in series["data"]] for series in options["series"]}
    assert drawn == {"ready": ["ver_3"], "quarantined": ["ver_6"], "Pareto front": ["ver_5", "ver_2", "ver_1"]}
    assert [datum["label"]["formatter"] for datum in options["series"][-1]["data"]] == ["@5 W4A16", "@2 W4A16", "@1 master"]
    assert options["series"][-1]["data"][0]["value"] == [3.0, 1.09]
    # A tooltip made of HTML would show what is in a name as markup.
    assert options["tooltip"]["renderMode"] == "richText"
    assert scatter_text(scatter).endswith("On the Pareto front: bard@5, bard@2, bard@1.")


def test_names_that_would_stand_on_each_other_are_left_to_the_table() -> None:
    near = [version(number, 4_000 + number, measured(1.05 - number / 10_000)) for number in range(2, 6)]
    figures = FIGURES.model_copy(update={"data": [*near, version(7, 9_000, measured(1.01)), version(8, 1_000, measured(1.5))]})
    front = chart_options(scatter_of(figures, "bytes", "perplexity_ratio", MEASURE))["series"][-1]["data"]
    assert [datum["id"] for datum in front if datum["label"]["show"]] == ["ver_8", "ver_2", "ver_7"]


def test_archived_versions_are_no_part_of_the_front() -> None:
    scatter = scatter_of(FIGURES, "bytes", "perplexity_ratio", MEASURE)
    archived = [point._replace(state=VersionState.ARCHIVED) for point in scatter.points]
    assert pareto_front(archived, Better.LOWER) == []


def test_intervals_are_told_where_there_are_any() -> None:
    assert interval_text(1.0134, 1.008, 1.019) == "1.0134 (1.0080 to 1.0190)"
    assert interval_text(1.02, None, None) == "1.02"
