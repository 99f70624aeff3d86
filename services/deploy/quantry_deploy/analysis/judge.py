"""From evidence to verdicts: every rule of a spec, over all that was counted so far. Pure; it may be asked after every window."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from quantry_core.rules import (
    AnalysisSpec,
    ErrorRateCompared,
    ErrorRateLimit,
    FeedbackCompared,
    LatencyCompared,
    LatencyLimit,
    PrometheusLimit,
    Rule,
)
from quantry_core.traffic import ReleaseTraffic
from quantry_core.verdicts import Finding, Judgement, overall
from quantry_deploy.analysis.comparisons import error_rate_compared, feedback_compared, latency_compared
from quantry_deploy.analysis.evidence import Evidence
from quantry_deploy.analysis.limits import error_rate_limit, latency_limit, prometheus_limit


def judge(
    spec: AnalysisSpec,
    candidate: ReleaseTraffic,
    stable: ReleaseTraffic | None,
    external: Mapping[str, float | str],
    now: datetime,
) -> Judgement:
    """Returns what each rule finds, and the verdict of all.

    Both releases' traffic is that of one span of time, which began before anything of it was seen: whoever begins it anew after a look
    claims the spec's error probability once more. ``external`` has, by a prometheus_limit's query, its value or a sentence that says why
    there is none.

    A rule's verdict is wrong, at any look ever, with at most the spec's error probability over the number of rules that count requests.
    Values of Prometheus are taken at their word, and take none of it.
    """
    num_statistical = sum(not isinstance(rule, PrometheusLimit) for rule in spec.rules)
    evidence = Evidence(
        candidate=candidate.total(),
        stable=None if stable is None else stable.total(),
        error_probability=spec.error_probability / max(1, num_statistical),
        min_requests=spec.min_requests,
        external=external,
    )
    findings = [find(rule, evidence) for rule in spec.rules]
    return Judgement(verdict=overall(findings), findings=findings, made_at=now)


def find(rule: Rule, evidence: Evidence) -> Finding:
    """Returns what one rule says of the evidence."""
    match rule:
        case ErrorRateLimit():
            return error_rate_limit(rule, evidence)
        case LatencyLimit():
            return latency_limit(rule, evidence)
        case ErrorRateCompared():
            return error_rate_compared(rule, evidence)
        case LatencyCompared():
            return latency_compared(rule, evidence)
        case FeedbackCompared():
            return feedback_compared(rule, evidence)
        case PrometheusLimit():
            return prometheus_limit(rule, evidence)
