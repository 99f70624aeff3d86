"""What an analysis may be asked, and what it refuses to be."""

from __future__ import annotations

import math
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from quantry_core.rules import AnalysisSpec, ErrorRateCompared, LatencyCompared, PrometheusLimit, Rule, RuleName


def test_every_rule_but_the_shadow_s_is_of_the_union() -> None:
    names = [model.model_fields["rule"].default for model in get_args(get_args(Rule)[0])]
    assert sorted(names) == sorted(set(RuleName) - {RuleName.SHADOW})


def test_without_words_errors_and_latency_are_compared() -> None:
    assert AnalysisSpec().rules == [ErrorRateCompared(), LatencyCompared()]


@pytest.mark.parametrize(
    "rule",
    [
        {"rule": "error_rate_limit", "max_rate": 0.02},
        {"rule": "latency_limit", "metric": "ttft", "quantile": 0.99, "max_s": 2.5},
        {"rule": "error_rate_compared", "max_increase": 0.02},
        {"rule": "latency_compared", "metric": "tpot", "max_ratio": 1.2},
        {"rule": "feedback_compared", "max_decrease": 0.05},
        {"rule": "prometheus_limit", "query": "up", "min_value": 1},
    ],
)
def test_a_rule_is_told_by_its_name(rule: dict[str, Any]) -> None:
    found = AnalysisSpec.model_validate({"rules": [rule]}).rules[0]
    assert found.rule == rule["rule"]
    assert rule.items() <= found.model_dump(mode="json").items()


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"rule": "shadow"}, "does not match any of the expected tags"),
        ({"rule": "error_rate_limit"}, "Field required"),
        ({"rule": "error_rate_limit", "max_rate": 1.0}, "less than 1"),
        ({"rule": "error_rate_limit", "max_rate": math.nan}, "finite number"),
        ({"rule": "latency_limit", "max_s": math.inf}, "finite number"),
        ({"rule": "latency_limit", "max_s": 0}, "greater than 0"),
        ({"rule": "latency_compared", "max_ratio": 1.0}, "greater than 1"),
        ({"rule": "latency_compared", "quantile": 0.999}, "less than or equal to 0.99"),
        ({"rule": "latency_compared", "percentile": 95}, "Extra inputs are not permitted"),
        ({"rule": "prometheus_limit", "query": "up"}, "neither max_value nor min_value is set"),
        ({"rule": "prometheus_limit", "query": "up", "max_value": 1, "min_value": 2}, "min_value 2 is above max_value 1"),
        ({"rule": "prometheus_limit", "query": "up", "max_value": math.nan}, "finite number"),
        ({"rule": "prometheus_limit", "query": "", "max_value": 1}, "at least 1 character"),
    ],
)
def test_a_rule_that_cannot_be_kept_or_broken_is_refused(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        AnalysisSpec.model_validate({"rules": [rule]})


@pytest.mark.parametrize("spec", [{"rules": []}, {"error_probability": 0}, {"error_probability": 0.5}, {"min_requests": 0}])
def test_a_spec_that_could_say_nothing_is_refused(spec: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        AnalysisSpec.model_validate(spec)


def test_a_bound_on_one_side_is_enough() -> None:
    assert PrometheusLimit(query="up", min_value=0.0).max_value is None
