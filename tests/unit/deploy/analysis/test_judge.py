"""Verdicts over whole specs: never of nothing, never because of how windows were cut, and with sentences for people."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from factories.traffic import release_traffic, tally
from quantry_core.histograms import Histogram
from quantry_core.rules import (
    AnalysisSpec,
    ErrorRateCompared,
    ErrorRateLimit,
    FeedbackCompared,
    LatencyCompared,
    LatencyLimit,
    LatencyMetric,
    PrometheusLimit,
    Rule,
    RuleName,
)
from quantry_core.traffic import ReleaseTraffic, Tally
from quantry_core.verdicts import Finding, Judgement, Verdict
from quantry_deploy.analysis.judge import judge

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
EVERY_RULE = AnalysisSpec(
    rules=[
        ErrorRateLimit(max_rate=0.1),
        LatencyLimit(max_s=3.0),
        ErrorRateCompared(),
        LatencyCompared(),
        FeedbackCompared(),
        PrometheusLimit(query="up", max_value=2.0),
    ]
)
HISTOGRAMS = st.dictionaries(st.integers(-50, 120), st.integers(0, 40), max_size=6).map(lambda counts: Histogram(counts=counts))
TALLIES = st.builds(
    Tally,
    num_answered=st.integers(0, 300),
    num_failed=st.integers(0, 300),
    num_refused=st.integers(0, 3),
    num_approved=st.integers(0, 60),
    num_disapproved=st.integers(0, 60),
    e2e_s=HISTOGRAMS,
    ttft_s=HISTOGRAMS,
    given_up_s=HISTOGRAMS,
)


def look(spec: AnalysisSpec, candidate: Tally, stable: Tally | None, external: dict[str, float | str] | None = None) -> Judgement:
    other = None if stable is None else release_traffic(stable, release_id="rel_0")
    return judge(spec, release_traffic(candidate), other, {} if external is None else external, NOW)


def finding(rule: Rule, candidate: Tally, stable: Tally | None = None, **spec: Any) -> Finding:
    return look(AnalysisSpec(rules=[rule], **spec), candidate, stable).findings[0]


def steady(num: int, scale: float = 1.0, seed: int = 0, **figures: Any) -> Tally:
    draw = random.Random(seed)
    return tally(e2e_s=[scale * draw.lognormvariate(0, 0.3) for _ in range(num)], **figures)


def test_every_rule_of_a_spec_has_its_finding() -> None:
    judgement = look(EVERY_RULE, steady(200), steady(1800), {"up": 1.0})
    assert [one.rule for one in judgement.findings] == [rule.rule for rule in EVERY_RULE.rules]
    kinds = {model.model_fields["rule"].default for model in get_args(get_args(Rule)[0])}
    assert {one.rule for one in judgement.findings} == kinds == set(RuleName) - {RuleName.SHADOW}
    assert judgement.made_at == NOW


def test_a_candidate_like_the_stable_release_passes_the_default_rules_after_some_hundred_requests() -> None:
    num = next(num for num in range(1, 400) if look(AnalysisSpec(), steady(num, seed=5), steady(9 * num)).verdict is Verdict.PASS)
    assert 75 <= num <= 100


@pytest.mark.parametrize(("num", "num_stable"), [(3, 27), (4, 16), (7, 7)])
def test_a_candidate_that_answers_nothing_but_errors_fails_after_a_handful(num: int, num_stable: int) -> None:
    judgement = look(AnalysisSpec(), tally(failed=num), steady(num_stable))
    assert judgement.verdict is Verdict.FAIL
    told = f"error_rate_compared: {num} of {num} requests failed, 0 of {num_stable} of the stable release's: surely at least "
    assert judgement.reason().startswith(told)
    assert look(AnalysisSpec(), tally(failed=1), steady(num_stable)).verdict is Verdict.INCONCLUSIVE


def test_one_rule_that_fails_fails_all() -> None:
    judgement = look(AnalysisSpec(), steady(300, scale=3.0), steady(2700))
    assert [one.verdict for one in judgement.findings] == [Verdict.PASS, Verdict.FAIL]
    assert judgement.verdict is Verdict.FAIL
    assert "latency_compared: p95 of latency is " in judgement.reason() and "times the stable release's p95; 5% may" in judgement.reason()


@settings(deadline=None)
@given(TALLIES, TALLIES)
def test_nothing_of_the_candidate_is_never_a_verdict(candidate: Tally, stable: Tally) -> None:
    for spec in (EVERY_RULE, AnalysisSpec(min_requests=1)):
        assert {one.verdict for one in look(spec, Tally(), stable, {"up": 1.0}).findings} == {Verdict.INCONCLUSIVE}
        compared = look(spec, candidate, None, {"up": 1.0}).findings
        assert {one.verdict for one in compared if one.rule.endswith("_compared")} <= {Verdict.INCONCLUSIVE}
        assert look(spec, candidate, Tally(), {"up": 1.0}).verdict is not Verdict.PASS


@settings(deadline=None)
@given(TALLIES, TALLIES, st.integers(1, 400))
def test_no_tally_raises_and_none_passes_with_too_few_requests(candidate: Tally, stable: Tally, min_requests: int) -> None:
    judgement = look(EVERY_RULE.model_copy(update={"min_requests": min_requests}), candidate, stable, {"up": 1.0})
    for one in judgement.findings:
        assert one.message
        if one.verdict is Verdict.PASS:
            assert candidate.num_judged >= min_requests
        if one.low is not None and one.high is not None:
            assert one.low <= one.high


@settings(max_examples=40, deadline=None)
@given(st.lists(TALLIES, min_size=1, max_size=5), TALLIES, st.randoms(use_true_random=False))
def test_the_verdict_depends_on_what_was_counted_and_not_on_how_it_was_cut(
    tallies: list[Tally], stable: Tally, shuffle: random.Random
) -> None:
    whole = Tally()
    for one in tallies:
        whole = whole.merged(one)
    shuffle.shuffle(tallies)
    cut = judge(EVERY_RULE, release_traffic(*tallies), release_traffic(stable), {"up": 1.0}, NOW)
    assert cut == look(EVERY_RULE, whole, stable, {"up": 1.0})


@settings(max_examples=60, deadline=None)
@given(TALLIES, TALLIES, st.integers(1, 50))
def test_more_errors_never_help(candidate: Tally, stable: Tally, by: int) -> None:
    order = [Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS]
    moved = min(by, candidate.num_answered)
    worse = candidate.model_copy(update={"num_failed": candidate.num_failed + moved, "num_answered": candidate.num_answered - moved})
    for rule in (ErrorRateLimit(max_rate=0.1), ErrorRateCompared()):
        before, after = finding(rule, candidate, stable), finding(rule, worse, stable)
        assert order.index(after.verdict) <= order.index(before.verdict)


def test_rules_share_the_error_probability_and_prometheus_takes_none_of_it() -> None:
    candidate = tally(e2e_s=[1.0] * 60)
    alone = finding(ErrorRateLimit(max_rate=0.1), candidate)
    beside = look(AnalysisSpec(rules=[ErrorRateLimit(max_rate=0.1), PrometheusLimit(query="up", max_value=1)]), candidate, None)
    of_two = look(AnalysisSpec(rules=[ErrorRateLimit(max_rate=0.1), LatencyLimit(max_s=9)]), candidate, None).findings[0]
    half = finding(ErrorRateLimit(max_rate=0.1), candidate, error_probability=0.025)
    assert beside.findings[0].high == alone.high
    assert of_two.high == half.high
    assert half.high is not None and alone.high is not None and half.high > alone.high


def test_an_error_rate_is_held_against_its_limit() -> None:
    rule = ErrorRateLimit(max_rate=0.1)
    assert finding(rule, tally(e2e_s=[1.0] * 80)).verdict is Verdict.PASS
    failed = finding(rule, tally(e2e_s=[1.0] * 30, failed=20))
    assert (failed.verdict, failed.candidate, failed.bound, failed.num_candidate) == (Verdict.FAIL, 0.4, 0.1, 50)
    few = finding(rule, tally(e2e_s=[1.0] * 5))
    assert few.verdict is Verdict.INCONCLUSIVE
    assert few.message == ("0 of 5 requests failed: that may stand for 0% to 48.2%, and 10% is allowed: 5 of at least 34 requests")


def test_the_number_of_requests_that_is_named_is_enough() -> None:
    rule = ErrorRateLimit(max_rate=0.1)
    assert finding(rule, tally(e2e_s=[1.0] * 33)).verdict is Verdict.INCONCLUSIVE
    assert finding(rule, tally(e2e_s=[1.0] * 34)).verdict is Verdict.PASS
    compared = ErrorRateCompared(max_increase=0.1)
    told = finding(compared, tally(e2e_s=[1.0] * 30), tally(e2e_s=[1.0] * 300)).message
    num = int(told.split("of at least ")[1].split()[0])
    assert finding(compared, tally(e2e_s=[1.0] * (num - 1)), tally(e2e_s=[1.0] * 300)).verdict is Verdict.INCONCLUSIVE
    assert finding(compared, tally(e2e_s=[1.0] * num), tally(e2e_s=[1.0] * 300)).verdict is Verdict.PASS


def test_too_few_requests_are_named_where_they_alone_are_missing() -> None:
    few = finding(ErrorRateLimit(max_rate=0.5), tally(e2e_s=[1.0] * 15), min_requests=20)
    assert few.verdict is Verdict.INCONCLUSIVE
    assert few.message.endswith("15 of at least 20 requests")


def test_a_candidate_that_only_refuses_says_so() -> None:
    assert finding(ErrorRateLimit(max_rate=0.5), Tally(num_refused=1200)).message == (
        "no request of the candidate has been answered or failed yet; 1,200 were refused for want of room"
    )


@pytest.mark.parametrize(("scale", "verdict"), [(0.5, Verdict.PASS), (1.6, Verdict.FAIL), (0.999, Verdict.INCONCLUSIVE)])
def test_a_latency_is_held_against_its_limit(scale: float, verdict: Verdict) -> None:
    candidate = tally(e2e_s=[scale] * 400)
    assert finding(LatencyLimit(max_s=1.0), candidate).verdict is verdict


@pytest.mark.parametrize("metric", LatencyMetric)
def test_each_latency_is_its_own(metric: LatencyMetric) -> None:
    slow = Tally(num_answered=400, **{f"{metric}_s": Histogram(counts={100: 400})})
    found = {one: finding(LatencyLimit(metric=one, max_s=1.0), slow).verdict for one in LatencyMetric}
    assert found == {one: Verdict.FAIL if one is metric else Verdict.INCONCLUSIVE for one in LatencyMetric}


def test_a_candidate_that_hangs_until_clients_go_fails_by_their_waits() -> None:
    hanging = Tally(num_given_up=60, given_up_s=Histogram(counts={100: 60}))
    for rule in (LatencyLimit(max_s=5.0), LatencyCompared()):
        found = finding(rule, hanging, steady(1800))
        assert found.verdict is Verdict.FAIL
        assert "latency is unknown (60 clients gave up before)" in found.message
    assert finding(LatencyLimit(metric=LatencyMetric.TTFT, max_s=5.0), hanging).verdict is Verdict.INCONCLUSIVE


def test_clients_that_go_at_once_say_nothing() -> None:
    impatient = steady(90).model_copy(update={"given_up_s": Histogram(counts={-50: 1000})})
    assert finding(LatencyCompared(), impatient, steady(900)) == finding(LatencyCompared(), steady(90), steady(900)).model_copy(
        update={"message": finding(LatencyCompared(), impatient, steady(900)).message}
    )


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.95, 0.99])
def test_a_quantile_as_slow_passes_and_one_three_times_as_slow_fails(quantile: float) -> None:
    rule = LatencyCompared(quantile=quantile, max_ratio=1.5)
    assert finding(rule, steady(1000, seed=1), steady(9000)).verdict is Verdict.PASS
    assert finding(rule, steady(1000, scale=3.0, seed=1), steady(9000)).verdict is Verdict.FAIL


def test_the_margin_to_pass_is_narrow_at_the_median_too() -> None:
    rule = LatencyCompared(quantile=0.5, max_ratio=1.5)
    # Two of three requests take longer than 1.5 times the median; 60% is the most to pass.
    found = finding(rule, steady(30, scale=1.7, seed=1), steady(9000))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "with at most 60% to pass and more than 50% to fail" in found.message


def test_approval_is_compared_as_a_decrease() -> None:
    stable = Tally(num_answered=9000, num_approved=800, num_disapproved=100)
    good = finding(FeedbackCompared(), Tally(num_answered=1000, num_approved=400, num_disapproved=50), stable)
    bad = finding(FeedbackCompared(), Tally(num_answered=1000, num_approved=100, num_disapproved=100), stable)
    assert (good.verdict, bad.verdict) == (Verdict.PASS, Verdict.FAIL)
    assert bad.candidate == 0.5 and bad.stable == pytest.approx(8 / 9)
    assert bad.low is not None and bad.high is not None and bad.low < 8 / 9 - 0.5 < bad.high
    assert bad.message.startswith("100 of 200 judged answers were disapproved of, 100 of 900 of the stable release's: surely at least ")


@pytest.mark.parametrize(
    ("value", "verdict", "words"),
    [
        (1.0, Verdict.PASS, "up is 1, as asked"),
        (3.5, Verdict.FAIL, "up is 3.5; at most 2 is allowed"),
        (-1.0, Verdict.FAIL, "up is -1; at least 0 is asked for"),
        (float("nan"), Verdict.INCONCLUSIVE, "up is nan, which is no number to judge by"),
        (float("inf"), Verdict.INCONCLUSIVE, "up is inf, which is no number to judge by"),
        ("Prometheus did not answer within 5 s", Verdict.INCONCLUSIVE, "up has no value: Prometheus did not answer within 5 s"),
        (None, Verdict.INCONCLUSIVE, "up has no value: it has not been asked for yet"),
    ],
)
def test_a_value_of_prometheus(value: float | str | None, verdict: Verdict, words: str) -> None:
    spec = AnalysisSpec(rules=[PrometheusLimit(query="up", max_value=2.0, min_value=0.0)])
    found = look(spec, steady(20), None, {} if value is None else {"up": value}).findings[0]
    assert (found.verdict, found.message) == (verdict, words)


def test_a_value_of_prometheus_waits_for_the_first_requests() -> None:
    spec = AnalysisSpec(rules=[PrometheusLimit(query="up", max_value=2.0)])
    assert look(spec, steady(19), None, {"up": 9.0}).findings[0].message == "up is 9: 19 of at least 20 requests"
    assert look(spec, steady(20), None, {"up": 9.0}).verdict is Verdict.FAIL


def test_without_windows_nothing_is_known() -> None:
    nothing = ReleaseTraffic(release_id="rel_1")
    judgement = judge(EVERY_RULE, nothing, nothing, {"up": 1.0}, NOW)
    assert judgement.verdict is Verdict.INCONCLUSIVE
    assert {one.verdict for one in judgement.findings} == {Verdict.INCONCLUSIVE}
