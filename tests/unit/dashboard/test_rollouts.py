"""What is said and drawn of a rollout, and of what served when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from factories.serving import NOW, a_judgement, a_period, a_release, a_rollout, a_tally, traffic
from quantry_core.keys import Identity, Role
from quantry_core.rollouts import Deployment, PeriodCause, RolloutCause, RolloutReason, RolloutRequest, RolloutState
from quantry_core.rules import RuleName
from quantry_core.strategies import AbStrategy, BlueGreenStrategy, ImmediateStrategy, ShadowStrategy, StickyBy
from quantry_core.traffic import RolloutTraffic, Tally
from quantry_core.verdicts import Finding, Verdict
from quantry_dashboard import facts
from quantry_dashboard.chart_parts import milliseconds
from quantry_dashboard.pages.rollout_actions import QUESTIONS, may_be_asked
from quantry_dashboard.rollouts import (
    STATE_CLASSES,
    TRAFFIC_HEADINGS,
    VERDICT_CLASSES,
    counts_text,
    done,
    interval_place,
    interval_text,
    planned,
    rollout_facts,
    stage_text,
    steps_options,
    strategy_text,
    traffic_rows,
)
from quantry_dashboard.serving import (
    HISTORY_HEADINGS,
    REASON_WORDS,
    RELEASE_HEADINGS,
    Part,
    history_options,
    parts_of,
    parts_text,
    period_texts,
    release_name,
    release_texts,
)

RELEASES = {release.id: release for release in (a_release(1), a_release(2))}
DEPLOYMENT = Deployment(
    id="dep_1",
    project_id="prj_1",
    name="chat",
    current_release=a_release(1),
    active_rollout=None,
    replicas=[],
    is_stopped=False,
    created_at=NOW,
)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, [Part("stable", 100, "release 1 · bard@1")]),
        ({"active_rollout": a_rollout()}, [Part("stable", 90, "release 1 · bard@1"), Part("candidate", 10, "release 2 · bard@2")]),
        ({"active_rollout": a_rollout(percent=100)}, [Part("candidate", 100, "release 2 · bard@2")]),
        ({"active_rollout": a_rollout(RolloutState.PENDING, percent=0)}, [Part("stable", 100, "release 1 · bard@1")]),
        ({"is_stopped": True}, []),
        ({"current_release": None}, []),
    ],
)
def test_shares_are_of_the_release_that_serves_and_of_the_candidate(changes: dict[str, Any], parts: list[Part]) -> None:
    assert parts_of(DEPLOYMENT.model_copy(update=changes), RELEASES) == parts


def test_shares_in_words() -> None:
    assert parts_text([Part("stable", 90, "a"), Part("candidate", 10, "b")]) == "90% a, 10% b"
    assert parts_text([]) == "nothing is served"
    assert release_name(None, RELEASES) == "nothing"
    assert release_name("rel_0197f0a0000070008000000000000009", {}) == "rel_…00000009"


def test_a_rollouts_facts() -> None:
    said = {
        fact.name: fact for fact in rollout_facts(a_rollout(RolloutState.PAUSED, reason=RolloutReason.STEP, note="new kernels"), RELEASES)
    }
    assert said["stable"].text == "release 1 · bard@1"
    assert said["candidate"].text == "release 2 · bard@2"
    assert said["strategy"].text == "canary: 10%, 50%, 100%"
    assert said["stage"].text == "step 1 of 3: 10% of requests"
    assert said["why"].text == "its step says so"
    assert said["note"].text == "new kernels"
    assert said["begun by"].href == f"/jobs/{a_rollout().job_id}"
    assert "finished" not in said
    promised = {fact.name: fact for fact in rollout_facts(a_rollout(promote_requested=True, job_id=None, cause=RolloutCause.WATCH), {})}
    assert promised["asked for"].text == "to be promoted once its replicas are ready"
    assert (promised["begun by"].text, promised["begun by"].href) == ("what was seen after the promotion", None)


@pytest.mark.parametrize(
    ("changes", "strategy", "stage"),
    [
        ({"stage": 2, "percent": 100}, "canary: 10%, 50%, 100%", "step 3 of 3: 100% of requests"),
        ({"exposed_at": None, "percent": 0}, "canary: 10%, 50%, 100%", "its replicas become ready"),
        ({"strategy": ImmediateStrategy(), "percent": 0}, "immediate", "0% of requests"),
        ({"strategy": BlueGreenStrategy(), "exposed_at": None}, "blue-green", "its replicas become ready"),
        ({"strategy": AbStrategy(percent=30), "percent": 30}, "A/B: 30% by user", "30% of requests"),
        (
            {"strategy": AbStrategy(sticky_by=StickyBy.HEADER, header="x-tenant"), "percent": 50},
            "A/B: 50% by the header x-tenant",
            "50% of requests",
        ),
        ({"strategy": ShadowStrategy(), "percent": 0, "mirror_percent": 10}, "shadow: 10% compared", "10% of requests compared"),
    ],
)
def test_strategies_and_stages_in_words(changes: dict[str, Any], strategy: str, stage: str) -> None:
    rollout = a_rollout(**changes)
    assert (strategy_text(rollout), stage_text(rollout)) == (strategy, stage)


def a_finding(**changes: Any) -> Finding:
    fields: dict[str, Any] = {"rule": RuleName.LATENCY_COMPARED, "verdict": Verdict.PASS, "message": "as good"}
    return Finding.model_validate(fields | changes)


def test_an_interval_lies_where_its_bound_is_compared_with_it() -> None:
    passed = interval_place(a_finding(low=0.9, high=1.2, bound=1.5))
    assert passed is not None
    assert 0 < passed.left < passed.left + passed.width < passed.bound < 100
    failed = interval_place(a_finding(low=1.6, high=2.0, bound=1.5))
    assert failed is not None
    assert 0 < failed.bound < failed.left
    unsure = interval_place(a_finding(low=1.0, high=2.0, bound=1.5))
    assert unsure is not None
    assert unsure.bound == pytest.approx(unsure.left + unsure.width / 2)


@pytest.mark.parametrize(("low", "high"), [(None, 0.02), (float("-inf"), 0.02)])
def test_an_end_that_is_not_known_reaches_the_edge(low: float | None, high: float) -> None:
    place = interval_place(a_finding(low=low, high=high, bound=0.05))
    assert place is not None
    assert place.left == 0
    other = interval_place(a_finding(low=0.08, high=None, bound=0.05))
    assert other is not None
    assert other.left + other.width == pytest.approx(100)


def test_what_has_no_interval_has_no_picture() -> None:
    assert interval_place(a_finding()) is None
    assert interval_place(a_finding(bound=1.0)) is None
    assert interval_place(a_finding(low=1.0, high=2.0)) is None
    point = interval_place(a_finding(low=1.0, high=1.0, bound=1.0))
    assert point is not None
    assert point.width > 0


def test_findings_in_words() -> None:
    finding = a_judgement().findings[1]
    assert interval_text(finding) == "between 0.98 and 1.61, held against 1.5"
    assert counts_text(finding) == "240 of the candidate, 2,160 of stable"
    assert interval_text(a_finding(high=0.02, bound=0.05)) == "at most 0.02, held against 0.05"
    assert interval_text(a_finding(low=0.02)) == "at least 0.02"
    assert counts_text(a_finding(num_candidate=7)) == "7 of the candidate"


def test_the_steps_as_planned_and_as_they_were() -> None:
    begin = milliseconds(NOW)
    rollout = a_rollout()
    assert planned(rollout) == [[begin, 0.0], [begin, 10.0], [begin + 60_000, 50.0], [begin + 180_000, 100.0], [begin + 198_000, 100.0]]
    periods = [a_period(2, {1: 50, 2: 50}), a_period(1, {1: 90, 2: 10}), a_period(0, {1: 100}, rollout_id="rol_other")]
    created = milliseconds(rollout.created_at)
    now = NOW + timedelta(minutes=5)
    assert done(rollout, periods, now) == [
        [created, 0.0],
        [begin + 60_000, 10.0],
        [begin + 120_000, 50.0],
        [milliseconds(now), 50.0],
    ]
    ended = a_rollout(RolloutState.ROLLED_BACK, finished_at=NOW + timedelta(minutes=3))
    back = [a_period(3, {1: 100}, PeriodCause.ROLLED_BACK), *periods]
    assert done(ended, back, now)[-2:] == [[begin + 180_000, 0.0], [begin + 180_000, 0.0]]
    lines = {line["name"]: line for line in steps_options(rollout, periods, now)["series"]}
    assert {name: line["step"] for name, line in lines.items()} == {"planned, at the earliest": "end", "as it was": "end"}


def test_other_strategies_plan_a_share_or_nothing() -> None:
    assert [point[1] for point in planned(a_rollout(strategy=AbStrategy(percent=30)))] == [30.0, 30.0]
    assert planned(a_rollout(from_release_id=None)) == []
    assert planned(a_rollout(strategy=ImmediateStrategy())) == []
    assert planned(a_rollout(strategy=ShadowStrategy())) == []


def test_both_releases_are_rows_of_what_was_measured() -> None:
    stable, candidate = (dict(zip(TRAFFIC_HEADINGS[:5], row[:5], strict=True)) for row in traffic_rows(traffic()))
    assert (stable[""], stable["Answered"], stable["Failed"]) == ("stable", "2,160", "0 (0.0%)")
    assert (candidate[""], candidate["Failed"], candidate["First token p50"]) == ("candidate", "12 (5.0%)", "62 ms")
    [only] = traffic_rows(RolloutTraffic(rollout_id="rol_1", since=None, candidate=Tally()))
    assert only == ("candidate", "0", "0", "0", "–", "–", "–", "–")
    slow = RolloutTraffic(rollout_id="rol_1", since=NOW, candidate=a_tally(10, e2e_s=2.0))
    assert traffic_rows(slow)[0][6].endswith(" s")
    assert len(only) == len(TRAFFIC_HEADINGS)


def test_what_served_when_is_a_row_and_a_picture() -> None:
    periods = [
        a_period(2, {1: 100}, PeriodCause.ROLLED_BACK, reason=RolloutReason.VERDICT_FAILED, message="p95: too slow", ended_at=None),
        a_period(1, {1: 90, 2: 10}, key_id="key_0197f0a0000070008000000000000001", note="try it"),
        a_period(0, {}, PeriodCause.STOPPED, reason=RolloutReason.STOPPED),
    ]
    rows = [dict(zip(HISTORY_HEADINGS, period_texts(period), strict=True)) for period in periods]
    assert [row["Serves"] for row in rows] == ["100% bard@1 (release 1)", "90% bard@1 (release 1), 10% bard@2 (release 2)", "nothing"]
    assert [row["By"] for row in rows] == ["the platform", "key_…00000001", "the platform"]
    assert [row["Why"] for row in rows] == ["p95: too slow", "try it", "the deployment was stopped"]
    now = NOW + timedelta(minutes=9)
    options = history_options(periods, now)
    at = [milliseconds(NOW + timedelta(minutes=minute)) for minute in (0, 1, 2, 9)]
    assert {line["name"]: line["data"] for line in options["series"]} == {
        "release 1 · bard@1": [[at[0], 0], [at[1], 90], [at[2], 100], [at[3], 100]],
        "release 2 · bard@2": [[at[0], 0], [at[1], 10], [at[2], 0], [at[3], 0]],
    }
    assert len({line["color"] for line in options["series"]}) == 2


def test_a_release_is_a_row() -> None:
    row = release_texts(a_release(3, servers=["http://10.0.0.1:8000", "http://10.0.0.2:8000"]))
    assert row == ("3", "bard@3", "vllm", "2", "2026-11-22 12:00:00 UTC")
    assert len(row) == len(RELEASE_HEADINGS) - 1


@pytest.mark.parametrize(
    ("state", "changes", "requests"),
    [
        (RolloutState.PENDING, {}, {"abort", "promote"}),
        (RolloutState.PROGRESSING, {}, {"abort", "rollback", "promote", "pause"}),
        (RolloutState.PROGRESSING, {"promote_requested": True}, {"abort", "rollback", "pause"}),
        (RolloutState.PAUSED, {}, {"abort", "rollback", "promote", "resume"}),
        (RolloutState.PAUSED, {"promote_requested": True}, {"abort", "rollback", "promote", "resume"}),
        (RolloutState.PROMOTED, {}, set()),
        (RolloutState.ROLLED_BACK, {}, set()),
        (RolloutState.ABORTED, {}, set()),
    ],
)
def test_a_button_is_there_when_it_makes_sense(state: RolloutState, changes: dict[str, Any], requests: set[str]) -> None:
    assert may_be_asked(a_rollout(state, **changes)) == {RolloutRequest(request) for request in requests}


def test_every_state_verdict_reason_and_request_has_its_words() -> None:
    assert set(STATE_CLASSES) == set(RolloutState)
    assert set(VERDICT_CLASSES) == set(Verdict)
    assert set(REASON_WORDS) == set(RolloutReason)
    assert set(QUESTIONS) == set(RolloutRequest)


def test_who_may_only_look_is_told_so() -> None:
    assert facts.hindrance(Identity(key_id="key_1", project_id="prj_1", role=Role.OPERATOR)) is None
    assert "operator's key" in (facts.hindrance(Identity(key_id="key_1", project_id="prj_1", role=Role.VIEWER)) or "")
