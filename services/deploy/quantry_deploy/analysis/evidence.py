"""What the rules of one look stand on, and the decision that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from quantry_core.rules import LatencyMetric
from quantry_core.traffic import Tally
from quantry_core.verdicts import Verdict
from quantry_deploy.analysis.shares import Interval
from quantry_deploy.analysis.tails import Tails


@dataclass(frozen=True)
class Evidence:
    """Both releases' counts, and what each rule may claim by them."""

    candidate: Tally
    stable: Tally | None
    """None where there is no stable release."""
    error_probability: float
    """Of one rule."""
    min_requests: int = 1
    external: Mapping[str, float | str] = field(default_factory=dict)
    """By query: its value, or why there is none."""

    def decide(self, interval: Interval, *, fails_above: float, passes_to: float) -> Verdict:
        """Returns fail once all that is not ruled out is above the one bound; pass once all is within the other, of enough requests."""
        if interval.low > fails_above:
            return Verdict.FAIL
        is_enough = self.candidate.num_judged >= self.min_requests
        return Verdict.PASS if is_enough and interval.high <= passes_to else Verdict.INCONCLUSIVE

    def missing(self, num: int, num_needed: int = 0, what: str = "requests") -> str:
        """Returns what keeps a rule from a verdict, for people, where it stands on ``num`` and no fewer than ``num_needed`` could do."""
        if num < num_needed:
            return f"{num:,} of at least {num_needed:,} {what}"
        if self.candidate.num_judged < self.min_requests:
            return f"{self.candidate.num_judged:,} of at least {self.min_requests:,} requests"
        return f"{num:,} {what} are too few to tell"


def tails_of(tally: Tally, metric: LatencyMetric) -> Tails:
    """Returns the tails of a latency.

    How long the requests waited whose clients gave up is a lower bound of the whole answer's latency, and of none else: their first token
    may long have come.
    """
    return Tails(tally.latency(metric), tally.given_up_s if metric is LatencyMetric.E2E else None)
