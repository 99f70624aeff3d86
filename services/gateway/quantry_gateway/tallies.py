"""Counts what requests came to, by release, and cuts the counts into windows of time.

One outcome costs a few microseconds: numbers are added up in place, and models are made of them once for each window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from quantry_core.histograms import Histogram, bucket_of
from quantry_core.traffic import PairTally, Tally, TrafficWindow
from quantry_gateway.outcomes import Outcome, OutcomeKind
from quantry_gateway.pairs import PairScore


def now() -> datetime:
    """Returns the time of day, in UTC."""
    return datetime.now(UTC)


class Tallies:
    """What was counted of each release since the last cut."""

    def __init__(self, *, clock: Callable[[], datetime] = now) -> None:
        self._clock = clock
        self._by_release: dict[str, _Counts] = {}
        self._began_at = clock()

    def tell(self, outcome: Outcome) -> None:
        """Counts one finished request."""
        self._of(outcome.release_id).add(outcome)

    def judge(self, release_id: str, *, approves: bool) -> None:
        """Counts one word of feedback on a release's answer."""
        counts = self._of(release_id)
        if approves:
            counts.num_approved += 1
        else:
            counts.num_disapproved += 1

    def compare(self, candidate_id: str, score: PairScore | None) -> None:
        """Counts one pair of a candidate release; None where it failed to answer as it should."""
        self._of(candidate_id).add_pair(score)

    def cut(self) -> list[TrafficWindow]:
        """Returns a window for each release of which something was counted, and begins the next ones."""
        # The time of day may be set back; a window never ends before it began.
        began_at, ended_at = self._began_at, max(self._clock(), self._began_at)
        counted, self._by_release = self._by_release, {}
        self._began_at = ended_at
        return [
            TrafficWindow(release_id=release_id, began_at=began_at, ended_at=ended_at, tally=counts.tally())
            for release_id, counts in counted.items()
        ]

    def _of(self, release_id: str) -> _Counts:
        counts = self._by_release.get(release_id)
        if counts is None:
            counts = self._by_release[release_id] = _Counts()
        return counts


@dataclass(slots=True)
class _Counts:
    """A Tally that grows in place."""

    num_answered: int = 0
    num_failed: int = 0
    num_refused: int = 0
    num_rejected: int = 0
    num_given_up: int = 0
    num_filtered: int = 0
    num_retried: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    num_approved: int = 0
    num_disapproved: int = 0
    ttft_s: dict[int, int] = field(default_factory=dict)
    tpot_s: dict[int, int] = field(default_factory=dict)
    e2e_s: dict[int, int] = field(default_factory=dict)
    given_up_s: dict[int, int] = field(default_factory=dict)
    num_pairs: int = 0
    num_pairs_failed: int = 0
    disagreement_sum: float = 0.0
    disagreement_square_sum: float = 0.0
    divergence_sum: float = 0.0
    divergence_square_sum: float = 0.0

    def add(self, outcome: Outcome) -> None:
        """Counts one finished request."""
        self.num_retried += outcome.num_retried
        self.prompt_tokens += outcome.prompt_tokens or 0
        self.completion_tokens += outcome.completion_tokens or 0
        kind = outcome.kind
        if kind is OutcomeKind.ANSWERED:
            self.num_answered += 1
            self.num_filtered += outcome.is_filtered
            _count(self.e2e_s, outcome.ended_s - outcome.began_s)
            self._add_stream(outcome)
        elif kind is OutcomeKind.FAILED:
            self.num_failed += 1
        elif kind is OutcomeKind.GIVEN_UP:
            self.num_given_up += 1
            _count(self.given_up_s, outcome.ended_s - outcome.began_s)
            # What it had got by then came as fast as it came; left out, the slow ones would be missing.
            self._add_stream(outcome)
        elif kind is OutcomeKind.REFUSED:
            self.num_refused += 1
        else:
            self.num_rejected += 1

    def _add_stream(self, outcome: Outcome) -> None:
        first_s = outcome.first_byte_s
        if first_s is None:
            return
        _count(self.ttft_s, first_s - outcome.began_s)
        num_tokens = outcome.completion_tokens or outcome.num_events
        if num_tokens > 1:
            _count(self.tpot_s, (outcome.ended_s - first_s) / (num_tokens - 1))

    def add_pair(self, score: PairScore | None) -> None:
        """Counts one pair; one that failed has no figures."""
        self.num_pairs += 1
        if score is None:
            self.num_pairs_failed += 1
            return
        self.disagreement_sum += score.disagreement
        self.disagreement_square_sum += score.disagreement**2
        self.divergence_sum += score.divergence
        self.divergence_square_sum += score.divergence**2

    def tally(self) -> Tally:
        """Returns what was counted."""
        return Tally(
            num_answered=self.num_answered,
            num_failed=self.num_failed,
            num_refused=self.num_refused,
            num_rejected=self.num_rejected,
            num_given_up=self.num_given_up,
            num_filtered=self.num_filtered,
            num_retried=self.num_retried,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            num_approved=self.num_approved,
            num_disapproved=self.num_disapproved,
            ttft_s=Histogram(counts=self.ttft_s),
            tpot_s=Histogram(counts=self.tpot_s),
            e2e_s=Histogram(counts=self.e2e_s),
            given_up_s=Histogram(counts=self.given_up_s),
            pairs=PairTally(
                num_pairs=self.num_pairs,
                num_failed=self.num_pairs_failed,
                disagreement_sum=self.disagreement_sum,
                disagreement_square_sum=self.disagreement_square_sum,
                divergence_sum=self.divergence_sum,
                divergence_square_sum=self.divergence_square_sum,
            ),
        )


def _count(counts: dict[int, int], value_s: float) -> None:
    bucket = bucket_of(value_s)
    counts[bucket] = counts.get(bucket, 0) + 1
