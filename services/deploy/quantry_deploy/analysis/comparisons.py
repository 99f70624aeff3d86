"""Rules that hold the candidate against the stable release, over the same time."""

from __future__ import annotations

from dataclasses import dataclass

from quantry_core.rules import ErrorRateCompared, FeedbackCompared, LatencyCompared, RuleName
from quantry_core.verdicts import Finding, Verdict
from quantry_deploy.analysis.evidence import Evidence, tails_of
from quantry_deploy.analysis.limits import given_up, none_judged
from quantry_deploy.analysis.shares import Counts, Interval, difference_interval, hedged, log_marginal, needed_nats, num_needed
from quantry_deploy.analysis.tails import slower_than_quantile
from quantry_deploy.analysis.words import METRICS, percent, points, quantile, seconds

NO_STABLE = "there is no traffic of the stable release to compare with"
MOST_MARGIN = 0.1
"""A latency passes up to twice the share that its quantile leaves above, but no more than this above it."""


@dataclass(frozen=True)
class _Events:
    """Two releases' counts of something bad, and the words for it."""

    rule: RuleName
    candidate: Counts
    stable: Counts
    bound: float
    happened: str
    what: str

    @property
    def words(self) -> str:
        mine = f"{self.candidate.num_events:,} of {self.candidate.num:,} {self.what} {self.happened}"
        return f"{mine}, {self.stable.num_events:,} of {self.stable.num:,} of the stable release's"


def error_rate_compared(rule: ErrorRateCompared, evidence: Evidence) -> Finding:
    """Returns pass once the error rate is surely no more than so far above the stable release's, fail once it surely is more."""
    mine, theirs = evidence.candidate, evidence.stable
    if not mine.num_judged:
        return _nothing(rule.rule, none_judged(mine), rule.max_increase)
    if theirs is None or not theirs.num_judged:
        return _nothing(rule.rule, NO_STABLE, rule.max_increase)
    counts = Counts(mine.num_failed, mine.num_answered), Counts(theirs.num_failed, theirs.num_answered)
    events = _Events(rule.rule, *counts, rule.max_increase, "failed", "requests")
    return _difference(events, evidence).model_copy(update={"candidate": counts[0].share, "stable": counts[1].share})


def feedback_compared(rule: FeedbackCompared, evidence: Evidence) -> Finding:
    """Returns pass once approval is surely no more than so far below the stable release's, fail once it surely is more.

    What is counted is disapproval: a share that much higher is an approval that much lower.
    """
    mine, theirs = evidence.candidate, evidence.stable
    if not mine.num_approved + mine.num_disapproved:
        return _nothing(rule.rule, "nobody has said yet what they think of an answer of the candidate", rule.max_decrease)
    if theirs is None or not theirs.num_approved + theirs.num_disapproved:
        return _nothing(rule.rule, "nobody has said what they think of an answer of the stable release", rule.max_decrease)
    counts = Counts(mine.num_disapproved, mine.num_approved), Counts(theirs.num_disapproved, theirs.num_approved)
    events = _Events(rule.rule, *counts, rule.max_decrease, "were disapproved of", "judged answers")
    return _difference(events, evidence).model_copy(update={"candidate": 1 - counts[0].share, "stable": 1 - counts[1].share})


def _difference(events: _Events, evidence: Evidence) -> Finding:
    interval = difference_interval(events.candidate, events.stable, evidence.error_probability)
    verdict = evidence.decide(interval, fails_above=events.bound, passes_to=events.bound)
    allowed = f"{points(events.bound)} allowed"
    match verdict:
        case Verdict.PASS if interval.high <= 0:
            told = "surely less"
        case Verdict.PASS:
            told = f"surely at most {points(interval.high)} more, within the {allowed}"
        case Verdict.FAIL:
            told = f"surely at least {points(interval.low)} more, beyond the {allowed}"
        case Verdict.INCONCLUSIVE:
            span = f"{points(interval.low)} to {points(interval.high)}" if interval.low > 0 else f"up to {points(interval.high)}"
            told = f"that may stand for {span} more, with {allowed}: {_lack(events, evidence)}"
    return Finding(
        rule=events.rule,
        verdict=verdict,
        message=f"{events.words}: {told}",
        low=interval.low,
        high=interval.high,
        bound=events.bound,
        num_candidate=int(events.candidate.num),
        num_stable=int(events.stable.num),
    )


def _lack(events: _Events, evidence: Evidence) -> str:
    """Returns what is missing, in numbers while the stable release has no such event: then only requests without one can do."""
    if events.stable.num_events:
        return evidence.missing(int(events.candidate.num), what=events.what)
    nats = needed_nats(evidence.error_probability) - hedged(log_marginal(events.stable))
    return evidence.missing(int(events.candidate.num), num_needed(events.bound, nats), what=events.what)


def latency_compared(rule: LatencyCompared, evidence: Evidence) -> Finding:
    """Compares the share of the candidate's requests that take longer than so many times the stable release's quantile with what may.

    As many may as the quantile leaves above. It fails once there surely are more, and passes once they are surely fewer than twice as many:
    the margin that lets a candidate which is as fast as the stable release pass in reasonable time.
    """
    metric, tail = METRICS[rule.metric], 1 - rule.quantile
    mine = tails_of(evidence.candidate, rule.metric)
    if not mine.most:
        return _nothing(rule.rule, f"no {metric} of the candidate has been measured yet", tail)
    theirs = None if evidence.stable is None else tails_of(evidence.stable, rule.metric)
    if theirs is None or evidence.stable is None or not theirs.num:
        return _nothing(rule.rule, f"no {metric} of the stable release has been measured to compare with", tail)
    interval = slower_than_quantile(
        mine, theirs, quantile=rule.quantile, ratio=rule.max_ratio, error_probability=evidence.error_probability
    )
    passes_to = tail + min(tail, MOST_MARGIN)
    verdict = evidence.decide(interval, fails_above=tail, passes_to=passes_to)
    names = quantile(rule.quantile)
    longer = f"of requests take longer than {rule.max_ratio:g} times the stable release's {names}"
    match verdict:
        case Verdict.PASS:
            told = f"surely at most {percent(interval.high)} {longer}, within the {percent(passes_to)} to pass"
        case Verdict.FAIL:
            told = f"surely at least {percent(interval.low)} {longer}; {percent(tail)} may"
        case Verdict.INCONCLUSIVE:
            lack = evidence.missing(mine.num, num_needed(passes_to, needed_nats(evidence.error_probability)))
            told = f"{_span(interval)} {longer}, with at most {percent(passes_to)} to pass and more than {percent(tail)} to fail: {lack}"
    own, other = (
        evidence.candidate.latency(rule.metric).quantile(rule.quantile),
        evidence.stable.latency(rule.metric).quantile(rule.quantile),
    )
    return Finding(
        rule=rule.rule,
        verdict=verdict,
        message=f"{names} of {metric} is {seconds(own)}{given_up(mine.num_given_up)}, the stable release's {seconds(other)}: {told}",
        candidate=own,
        stable=other,
        low=interval.low,
        high=interval.high,
        bound=tail,
        num_candidate=mine.num,
        num_stable=theirs.num,
    )


def _span(interval: Interval) -> str:
    return f"maybe {percent(interval.low)} to {percent(interval.high)}"


def _nothing(rule: RuleName, message: str, bound: float) -> Finding:
    return Finding(rule=rule, verdict=Verdict.INCONCLUSIVE, message=message, bound=bound)
