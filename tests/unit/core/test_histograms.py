"""Mergeable histograms: the promised relative error, and that merging is adding."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from factories.traffic import histogram
from quantry_core.histograms import LARGEST, RELATIVE_ERROR, SMALLEST, Histogram, add_counts, bucket_of, upper_edge

VALUES = st.floats(SMALLEST, 1e6)


@given(VALUES)
def test_a_value_lies_in_its_bucket(value: float) -> None:
    bucket = bucket_of(value)
    assert upper_edge(bucket - 1) * (1 - 1e-9) <= value <= upper_edge(bucket) * (1 + 1e-9)


@given(st.lists(VALUES, min_size=1, max_size=60), st.floats(0, 1))
def test_a_quantile_is_within_the_relative_error_of_the_true_one(values: list[float], q: float) -> None:
    true = sorted(values)[max(1, math.ceil(q * len(values))) - 1]
    found = histogram(values).quantile(q)
    assert found == pytest.approx(true, rel=RELATIVE_ERROR * 1.0001)


@given(st.lists(VALUES, max_size=40), st.lists(VALUES, max_size=40))
def test_merging_is_as_counting_all_at_once(some: list[float], others: list[float]) -> None:
    assert histogram(some).merged(histogram(others)) == histogram(some + others)


@given(st.lists(VALUES, max_size=60), VALUES)
def test_what_is_counted_above_a_value_is_above_it(values: list[float], value: float) -> None:
    num = histogram(values).num_above(value)
    assert num <= sum(one > value for one in values)
    assert num >= sum(one > value * (1 + 3 * RELATIVE_ERROR) for one in values)


def test_an_empty_one_has_no_quantile() -> None:
    assert Histogram().quantile(0.5) is None
    assert Histogram(counts={3: 0}).quantile(0.5) is None
    assert Histogram().num == 0 and Histogram().num_above(1.0) == 0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_has_no_bucket(value: float) -> None:
    with pytest.raises(ValueError, match="no place in a histogram"):
        bucket_of(value)


@pytest.mark.parametrize(("value", "counts_as"), [(0.0, SMALLEST), (-3.0, SMALLEST), (1e-300, SMALLEST), (1e300, LARGEST)])
def test_values_beyond_the_ends_count_as_the_ends(value: float, counts_as: float) -> None:
    assert bucket_of(value) == bucket_of(counts_as)
    assert histogram([value]).quantile(1.0) == pytest.approx(counts_as, rel=2 * RELATIVE_ERROR)


@pytest.mark.parametrize("counts", [{3: -1}, {bucket_of(SMALLEST) - 1: 1}, {bucket_of(LARGEST) + 1: 1}, {10**9: 1}])
def test_counts_and_buckets_that_cannot_be_are_refused(counts: dict[int, int]) -> None:
    with pytest.raises(ValidationError):
        Histogram(counts=counts)


def test_it_survives_json() -> None:
    one = histogram([0.1, 0.1, 7.0])
    assert Histogram.model_validate_json(one.model_dump_json()) == one


def test_counts_are_added_in_place() -> None:
    into = {1: 2}
    add_counts(into, {1: 3, 4: 5})
    assert into == {1: 5, 4: 5}


def test_ranks_that_there_are_not_are_refused() -> None:
    counted = Histogram(counts={3: 2})
    assert counted.at_rank(2) == counted.quantile(1.0)
    for rank in (0, 3):
        with pytest.raises(IndexError, match=f"2 values have none of rank {rank}"):
            counted.at_rank(rank)
