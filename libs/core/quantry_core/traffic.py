"""What gateways measure of each release, by windows of time: the evidence that analyses stand on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from quantry_core.histograms import Histogram, add_counts
from quantry_core.rules import LatencyMetric


class PairTally(BaseModel):
    """Sums over pairs of a shadow: the same prompt answered greedily by the stable and the candidate release."""

    model_config = ConfigDict(frozen=True)

    num_pairs: int = Field(default=0, ge=0, description="All pairs, the failed ones too.")
    num_failed: int = Field(
        default=0, ge=0, description="Pairs that the candidate did not answer, or not as a number can be made of. No sum has them."
    )
    disagreement_sum: float = Field(default=0.0, ge=0, description="Of the share of tokens that differ, 0 to 1 for each pair.")
    disagreement_square_sum: float = Field(default=0.0, ge=0)
    divergence_sum: float = Field(
        default=0.0, ge=0, description="Of the mean absolute difference of the logprobs of shared tokens, in nats, cut at MAX_DIVERGENCE."
    )
    divergence_square_sum: float = Field(default=0.0, ge=0)

    def merged(self, other: PairTally) -> PairTally:
        """Returns the tally of both."""
        return PairTally(**{name: getattr(self, name) + getattr(other, name) for name in type(self).model_fields})


MAX_DIVERGENCE = 5.0
"""A pair's divergence is cut at so many nats, so that its mean is one of a bounded variable."""


class Tally(BaseModel):
    """What was counted of one release. Every finished request is in exactly one of answered, failed, refused, rejected, given up."""

    model_config = ConfigDict(frozen=True)

    num_answered: int = Field(default=0, ge=0, description="Answered whole with a status below 400.")
    num_failed: int = Field(default=0, ge=0, description="The release's fault: 5xx, cut, timed out, nothing that answers.")
    num_refused: int = Field(default=0, ge=0, description="429 or 503 because queue or limit was full.")
    num_rejected: int = Field(default=0, ge=0, description="The client's fault: another 4xx of the engine.")
    num_given_up: int = Field(default=0, ge=0, description="The client went before the end of its answer.")
    num_filtered: int = Field(default=0, ge=0, description="Answered, but with finish_reason content_filter or a refusal.")
    num_retried: int = Field(default=0, ge=0, description="Tries that failed before the first byte and went to another replica.")
    prompt_tokens: int = Field(default=0, ge=0, description="As far as answers said.")
    completion_tokens: int = Field(default=0, ge=0)
    num_approved: int = Field(default=0, ge=0, description="Feedback that approves.")
    num_disapproved: int = Field(default=0, ge=0)
    ttft_s: Histogram = Histogram()
    tpot_s: Histogram = Histogram()
    e2e_s: Histogram = Histogram()
    given_up_s: Histogram = Field(default=Histogram(), description="How long those had waited who gave up: lower bounds of latencies.")
    pairs: PairTally = PairTally()

    @property
    def num_judged(self) -> int:
        """Requests that say something of the release's errors: answered or failed."""
        return self.num_answered + self.num_failed

    def latency(self, metric: LatencyMetric) -> Histogram:
        """Returns the histogram of a latency, in seconds."""
        return {LatencyMetric.TTFT: self.ttft_s, LatencyMetric.TPOT: self.tpot_s, LatencyMetric.E2E: self.e2e_s}[metric]

    def merged(self, other: Tally) -> Tally:
        """Returns the tally of both."""
        values = {}
        for name in type(self).model_fields:
            mine, theirs = getattr(self, name), getattr(other, name)
            values[name] = mine + theirs if isinstance(mine, int) else mine.merged(theirs)
        return Tally(**values)


def total_of(tallies: Sequence[Tally]) -> Tally:
    """Returns the tally of all: as merging one after the other, in time that grows with what they hold alone."""
    values: dict[str, object] = {}
    for name, field in Tally.model_fields.items():
        parts = [getattr(tally, name) for tally in tallies]
        if field.annotation is Histogram:
            counts: dict[int, int] = {}
            for part in parts:
                add_counts(counts, part.counts)
            values[name] = Histogram(counts=counts)
        elif field.annotation is PairTally:
            values[name] = PairTally(**{figure: sum(getattr(part, figure) for part in parts) for figure in PairTally.model_fields})
        else:
            values[name] = sum(parts)
    return Tally.model_validate(values)


class TrafficWindow(BaseModel):
    """One release's tally over one span of one gateway's time."""

    model_config = ConfigDict(frozen=True)

    release_id: str
    began_at: AwareDatetime
    ended_at: AwareDatetime
    tally: Tally


class Demand(BaseModel):
    """Requests that wait for a deployment which has no replica."""

    model_config = ConfigDict(frozen=True)

    deployment_id: str
    num_waiting: int = Field(ge=1)


MAX_REPORT_KEYS = 1000


class TrafficReport(BaseModel):
    """What a gateway tells: once each second, again until it was heard. The same report twice counts once."""

    model_config = ConfigDict(frozen=True)

    object: Literal["traffic.report"] = "traffic.report"
    gateway_id: str = Field(min_length=1, max_length=64, description="Made anew by each gateway process.")
    sequence: int = Field(ge=1, le=2**63 - 1, description="Counts a gateway's reports.")
    windows: list[TrafficWindow] = Field(default=[], max_length=1000)
    demands: list[Demand] = Field(default=[], max_length=1000)
    key_ids: list[Annotated[str, StringConstraints(max_length=64)]] = Field(
        default=[], max_length=MAX_REPORT_KEYS, description="Keys that were used lately; each is told every few minutes."
    )


class ReleaseTraffic(BaseModel):
    """A release's windows since some moment, in order of time: what an analysis reads."""

    model_config = ConfigDict(frozen=True)

    release_id: str
    windows: list[TrafficWindow] = []

    def total(self) -> Tally:
        """Returns the tally of all windows."""
        return total_of([window.tally for window in self.windows])


class RolloutTraffic(BaseModel):
    """What both releases of a rollout did since the candidate first got traffic: what its rules are held against, for people."""

    model_config = ConfigDict(frozen=True)

    object: Literal["rollout.traffic"] = "rollout.traffic"
    rollout_id: str
    since: datetime | None = Field(description="None: the candidate has had no traffic yet.")
    stable: Tally | None = Field(default=None, description="None: nothing served before.")
    candidate: Tally = Tally()
