"""The verdict on a shadow: how far the candidate's answers are from the stable release's to the same prompts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from quantry_core.rules import RuleName
from quantry_core.strategies import ShadowStrategy
from quantry_core.traffic import MAX_DIVERGENCE, PairTally, ReleaseTraffic
from quantry_core.verdicts import Finding, Verdict, overall
from quantry_deploy.analysis.means import Sums, mean_interval
from quantry_deploy.analysis.words import nats, percent


@dataclass(frozen=True)
class _Figure:
    """What of a pair is averaged."""

    name: str
    bound: float
    greatest: float
    """The most that one pair can have, and what a failed one counts as."""
    sums: Callable[[PairTally], tuple[float, float]]
    """The sum and the sum of squares over the pairs that did not fail."""
    words: Callable[[float], str]

    def of(self, pairs: PairTally, error_probability: float) -> _Found:
        """Returns what is known of the mean; raises ValueError where sums are those of no such pairs."""
        total, squares = self.sums(pairs)
        compared = Sums(pairs.num_pairs - pairs.num_failed, total / self.greatest, squares / self.greatest**2)
        compared.check()
        sums = Sums(pairs.num_pairs, compared.total + pairs.num_failed, compared.square_total + pairs.num_failed)
        low, high = mean_interval(sums, error_probability)
        return _Found(self, self.greatest * sums.mean, self.greatest * low, self.greatest * high)


@dataclass(frozen=True)
class _Found:
    """A mean and where it may lie, in the figure's unit."""

    figure: _Figure
    mean: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        if self.low > self.figure.bound:
            return Verdict.FAIL
        return Verdict.PASS if self.high <= self.figure.bound else Verdict.INCONCLUSIVE

    @property
    def message(self) -> str:
        words = self.figure.words
        allowed = f"the {words(self.figure.bound)} allowed"
        told = {
            Verdict.PASS: f"surely at most {words(self.high)}, within {allowed}",
            Verdict.FAIL: f"surely at least {words(self.low)}, beyond {allowed}",
            Verdict.INCONCLUSIVE: f"that may stand for {words(self.low)} to {words(self.high)}, around {allowed}",
        }
        return f"{self.figure.name} {words(self.mean)}, {told[self.verdict]}"


def judge_pairs(strategy: ShadowStrategy, candidate: ReleaseTraffic, error_probability: float) -> Finding:
    """Returns pass once both means are surely within the strategy's bounds, fail once one surely is not.

    A pair that failed counts as one of which all tokens differ, and as MAX_DIVERGENCE. The finding's figures are those of the mean that
    decides: shares where that is disagreement, nats where it is divergence. Each mean has half of the error probability.
    """
    pairs = candidate.total().pairs
    num = pairs.num_pairs
    if not num:
        return Finding(rule=RuleName.SHADOW, verdict=Verdict.INCONCLUSIVE, message="no pair of answers has been compared yet")
    try:
        found = [figure.of(pairs, error_probability / 2) for figure in _figures(strategy)]
    except ValueError as error:
        message = f"what gateways told of {num:,} pairs cannot be: {error}"
        return Finding(rule=RuleName.SHADOW, verdict=Verdict.INCONCLUSIVE, message=message, num_candidate=num)
    verdict = overall(Finding(rule=RuleName.SHADOW, verdict=one.verdict, message=one.message) for one in found)
    decided = next(one for one in found if one.verdict is verdict)
    failed = f", {pairs.num_failed:,} of which the candidate failed" if pairs.num_failed else ""
    return Finding(
        rule=RuleName.SHADOW,
        verdict=verdict,
        message=f"over {num:,} pairs of answers{failed}: {', and '.join(one.message for one in found)}",
        candidate=decided.mean,
        low=decided.low,
        high=decided.high,
        bound=decided.figure.bound,
        num_candidate=num,
        num_stable=num,
    )


def _figures(strategy: ShadowStrategy) -> list[_Figure]:
    return [
        _Figure(
            name="the share of tokens that differ is",
            bound=strategy.max_disagreement,
            greatest=1.0,
            sums=lambda pairs: (pairs.disagreement_sum, pairs.disagreement_square_sum),
            words=percent,
        ),
        _Figure(
            name="the logprobs of shared tokens are apart by",
            bound=strategy.max_logprob_divergence,
            greatest=MAX_DIVERGENCE,
            sums=lambda pairs: (pairs.divergence_sum, pairs.divergence_square_sum),
            words=nats,
        ),
    ]
