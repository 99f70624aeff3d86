"""Rules that hold the candidate against a fixed bound."""

from __future__ import annotations

import math

from quantry_core.rules import ErrorRateLimit, LatencyLimit, PrometheusLimit
from quantry_core.traffic import Tally
from quantry_core.verdicts import Finding, Verdict
from quantry_deploy.analysis.evidence import Evidence, tails_of
from quantry_deploy.analysis.shares import Counts, needed_nats, num_needed, share_interval
from quantry_deploy.analysis.tails import slower_than
from quantry_deploy.analysis.words import METRICS, excerpt, percent, quantile, seconds


def error_rate_limit(rule: ErrorRateLimit, evidence: Evidence) -> Finding:
    """Returns pass once the share of failed requests is surely within the bound, fail once it is surely above."""
    tally = evidence.candidate
    if not tally.num_judged:
        return Finding(rule=rule.rule, verdict=Verdict.INCONCLUSIVE, message=none_judged(tally), bound=rule.max_rate)
    counts = Counts(tally.num_failed, tally.num_answered)
    interval = share_interval(counts, evidence.error_probability)
    verdict = evidence.decide(interval, fails_above=rule.max_rate, passes_to=rule.max_rate)
    allowed = percent(rule.max_rate)
    match verdict:
        case Verdict.PASS:
            told = f"surely at most {percent(interval.high)}, within the {allowed} allowed"
        case Verdict.FAIL:
            told = f"surely at least {percent(interval.low)}; {allowed} is allowed"
        case Verdict.INCONCLUSIVE:
            lack = evidence.missing(tally.num_judged, num_needed(rule.max_rate, needed_nats(evidence.error_probability)))
            told = f"that may stand for {percent(interval.low)} to {percent(interval.high)}, and {allowed} is allowed: {lack}"
    return Finding(
        rule=rule.rule,
        verdict=verdict,
        message=f"{tally.num_failed:,} of {tally.num_judged:,} requests failed: {told}",
        candidate=counts.share,
        low=interval.low,
        high=interval.high,
        bound=rule.max_rate,
        num_candidate=tally.num_judged,
    )


def none_judged(tally: Tally) -> str:
    """Returns the sentence for a candidate of whose errors nothing is known."""
    refused = f"; {tally.num_refused:,} were refused for want of room" if tally.num_refused else ""
    return f"no request of the candidate has been answered or failed yet{refused}"


def latency_limit(rule: LatencyLimit, evidence: Evidence) -> Finding:
    """Returns pass once the share of requests beyond the bound is surely within what the quantile leaves, fail once it is surely above."""
    tails, tail = tails_of(evidence.candidate, rule.metric), 1 - rule.quantile
    if not tails.most:
        message = f"no {METRICS[rule.metric]} of the candidate has been measured yet"
        return Finding(rule=rule.rule, verdict=Verdict.INCONCLUSIVE, message=message, bound=tail)
    interval = slower_than(tails, rule.max_s, evidence.error_probability)
    verdict = evidence.decide(interval, fails_above=tail, passes_to=tail)
    longer, allowed = f"longer than {seconds(rule.max_s)}", percent(tail)
    match verdict:
        case Verdict.PASS:
            told = f"surely at most {percent(interval.high)} of requests take {longer}, within the {allowed} that may"
        case Verdict.FAIL:
            told = f"surely at least {percent(interval.low)} of requests take {longer}; {allowed} may"
        case Verdict.INCONCLUSIVE:
            lack = evidence.missing(tails.num, num_needed(tail, needed_nats(evidence.error_probability)))
            told = (
                f"{percent(interval.low)} to {percent(interval.high)} of requests may take {longer}, and {allowed} are allowed to: {lack}"
            )
    observed = evidence.candidate.latency(rule.metric).quantile(rule.quantile)
    return Finding(
        rule=rule.rule,
        verdict=verdict,
        message=f"{quantile(rule.quantile)} of {METRICS[rule.metric]} is {seconds(observed)}{given_up(tails.num_given_up)}: {told}",
        candidate=observed,
        low=interval.low,
        high=interval.high,
        bound=tail,
        num_candidate=tails.num,
    )


def given_up(num: int) -> str:
    """Returns the words that name requests whose latency is known by a lower bound only."""
    return f" ({num:,} clients gave up before)" if num else ""


def prometheus_limit(rule: PrometheusLimit, evidence: Evidence) -> Finding:
    """Returns pass or fail as the query's value lies; inconclusive where there is no finite one, or too little traffic to speak of.

    One number does not say how sure it is, so both verdicts wait for the candidate's first requests.
    """
    value = evidence.external.get(rule.query, "it has not been asked for yet")
    query, num = excerpt(rule.query), evidence.candidate.num_judged

    def found(verdict: Verdict, message: str) -> Finding:
        return Finding(
            rule=rule.rule,
            verdict=verdict,
            message=message,
            candidate=value if isinstance(value, float | int) and math.isfinite(value) else None,
            bound=rule.min_value if rule.max_value is None else rule.max_value,
            num_candidate=num,
        )

    if isinstance(value, str):
        return found(Verdict.INCONCLUSIVE, f"{query} has no value: {value}")
    if not math.isfinite(value):
        return found(Verdict.INCONCLUSIVE, f"{query} is {value}, which is no number to judge by")
    if num < evidence.min_requests or not num:
        return found(Verdict.INCONCLUSIVE, f"{query} is {value:g}: {evidence.missing(num, max(1, evidence.min_requests))}")
    if rule.max_value is not None and value > rule.max_value:
        return found(Verdict.FAIL, f"{query} is {value:g}; at most {rule.max_value:g} is allowed")
    if rule.min_value is not None and value < rule.min_value:
        return found(Verdict.FAIL, f"{query} is {value:g}; at least {rule.min_value:g} is asked for")
    return found(Verdict.PASS, f"{query} is {value:g}, as asked")
