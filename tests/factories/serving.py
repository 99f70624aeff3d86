"""Releases, rollouts and what was measured of them, for tests of what is shown of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from quantry_core.histograms import Histogram, bucket_of
from quantry_core.jobs import EngineConfig
from quantry_core.rollouts import PeriodCause, Release, Rollout, RolloutState, ServingPeriod, Share
from quantry_core.rules import RuleName
from quantry_core.strategies import CanaryStep, CanaryStrategy
from quantry_core.traffic import RolloutTraffic, Tally
from quantry_core.traffic_spans import RolloutSpans, figures_of
from quantry_core.verdicts import Finding, Judgement, Verdict

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
ROLLOUT_ID = "rol_0197f0a0000070008000000000000001"
DEPLOY_JOB_ID = "job_0197f0a0000070008000000000000001"
STEPS = [CanaryStep(percent=10, wait_s=60), CanaryStep(percent=50, wait_s=120), CanaryStep(percent=100, analysis=False)]


def a_release(number: int = 1, **changes: Any) -> Release:
    """Returns a release that serves version ``bard@<number>``."""
    fields: dict[str, Any] = {
        "id": f"rel_0197f0a00000700080000000000000{number:02d}",
        "deployment_id": "dep_1",
        "number": number,
        "version_id": f"ver_0197f0a00000700080000000000000{number:02d}",
        "version_ref": f"bard@{number}",
        "num_replicas": 1,
        "engine": EngineConfig(),
        "created_at": NOW,
    }
    return Release.model_validate(fields | changes)


def a_judgement(verdict: Verdict = Verdict.INCONCLUSIVE) -> Judgement:
    """Returns a look at two rules, of which the second comes to this verdict."""
    findings = [
        Finding(
            rule=RuleName.ERROR_RATE_COMPARED,
            verdict=Verdict.PASS,
            message="0.0% of 240 requests failed, stable 0.0% of 2,160; the difference is at most 2.1 points",
            candidate=0.0,
            stable=0.0,
            low=-0.011,
            high=0.021,
            bound=0.05,
            num_candidate=240,
            num_stable=2160,
        ),
        Finding(
            rule=RuleName.LATENCY_COMPARED,
            verdict=verdict,
            message="p95 is 1.22 times stable's, between 0.98 and 1.61",
            candidate=0.61,
            stable=0.5,
            low=0.98,
            high=1.61,
            bound=1.5,
            num_candidate=240,
            num_stable=2160,
        ),
    ]
    return Judgement(verdict=verdict, findings=findings, made_at=NOW)


def a_rollout(state: RolloutState = RolloutState.PROGRESSING, **changes: Any) -> Rollout:
    """Returns a canary at its first of three steps."""
    fields: dict[str, Any] = {
        "id": ROLLOUT_ID,
        "deployment_id": "dep_1",
        "from_release_id": a_release(1).id,
        "to_release_id": a_release(2).id,
        "job_id": DEPLOY_JOB_ID,
        "state": state,
        "strategy": CanaryStrategy(steps=STEPS),
        "percent": 10,
        "staged_at": NOW,
        "exposed_at": NOW,
        "judgement": a_judgement(),
        "ready_deadline_at": NOW + timedelta(minutes=10),
        "created_at": NOW - timedelta(minutes=2),
    }
    return Rollout.model_validate(fields | changes)


def a_tally(num_answered: int, *, num_failed: int = 0, e2e_s: float = 0.5) -> Tally:
    """Returns a tally whose answers took about so long."""
    spread = Histogram(counts={bucket_of(e2e_s): num_answered - num_answered // 10, bucket_of(2 * e2e_s): num_answered // 10})
    first = Histogram(counts={bucket_of(e2e_s / 10): num_answered})
    return Tally(num_answered=num_answered, num_failed=num_failed, e2e_s=spread, ttft_s=first)


def traffic(**changes: Any) -> RolloutTraffic:
    """Returns what a canary at 10 percent saw."""
    fields: dict[str, Any] = {
        "rollout_id": ROLLOUT_ID,
        "since": NOW,
        "stable": a_tally(2160),
        "candidate": a_tally(228, num_failed=12, e2e_s=0.61),
    }
    return RolloutTraffic.model_validate(fields | changes)


def spans(num_spans: int = 3, **changes: Any) -> RolloutSpans:
    """Returns both releases in spans of five seconds; the candidate is a little slower, and fails now and then."""
    stable = {number: a_tally(240) for number in range(num_spans)}
    candidate = {number: a_tally(24, num_failed=number, e2e_s=0.61) for number in range(num_spans)}
    fields: dict[str, Any] = {
        "rollout_id": ROLLOUT_ID,
        "since": NOW,
        "span_s": 5,
        "stable": figures_of(stable, NOW, 5),
        "candidate": figures_of(candidate, NOW, 5),
    }
    return RolloutSpans.model_validate(fields | changes)


def a_period(number: int, percents: dict[int, int], cause: PeriodCause = PeriodCause.STAGE, **changes: Any) -> ServingPeriod:
    """Returns the ``number``-th period, a minute each, with the shares of these releases."""
    began_at = NOW + timedelta(minutes=number)
    shares = [
        Share(
            release_id=a_release(release).id,
            release_number=release,
            version_id=a_release(release).version_id,
            version_ref=a_release(release).version_ref,
            percent=percent,
        )
        for release, percent in percents.items()
    ]
    fields: dict[str, Any] = {
        "id": f"per_0197f0a00000700080000000000000{number:02d}",
        "deployment_id": "dep_1",
        "began_at": began_at,
        "ended_at": began_at + timedelta(minutes=1),
        "shares": shares,
        "cause": cause,
        "rollout_id": ROLLOUT_ID,
    }
    return ServingPeriod.model_validate(fields | changes)
