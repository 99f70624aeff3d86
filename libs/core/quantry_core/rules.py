"""What an analysis asks of a candidate release: closed specs of rules over what the gateway measured."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class RuleName(StrEnum):
    ERROR_RATE_LIMIT = "error_rate_limit"
    LATENCY_LIMIT = "latency_limit"
    ERROR_RATE_COMPARED = "error_rate_compared"
    LATENCY_COMPARED = "latency_compared"
    FEEDBACK_COMPARED = "feedback_compared"
    PROMETHEUS_LIMIT = "prometheus_limit"
    SHADOW = "shadow"
    """Not of a spec: the comparison of pairs that a shadow strategy makes."""


class LatencyMetric(StrEnum):
    """Seconds: to the first token, for each further token, and of the whole answer."""

    TTFT = "ttft"
    TPOT = "tpot"
    E2E = "e2e"


class _Rule(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ErrorRateLimit(_Rule):
    """The candidate's share of failed requests stays below a bound."""

    rule: Literal[RuleName.ERROR_RATE_LIMIT] = RuleName.ERROR_RATE_LIMIT
    max_rate: float = Field(gt=0, lt=1)


class LatencyLimit(_Rule):
    """A quantile of the candidate's latency stays below a bound."""

    rule: Literal[RuleName.LATENCY_LIMIT] = RuleName.LATENCY_LIMIT
    metric: LatencyMetric = LatencyMetric.E2E
    quantile: float = Field(default=0.95, ge=0.5, le=0.99)
    max_s: float = Field(gt=0)


class ErrorRateCompared(_Rule):
    """The candidate's share of failed requests is at most so much above the stable release's."""

    rule: Literal[RuleName.ERROR_RATE_COMPARED] = RuleName.ERROR_RATE_COMPARED
    max_increase: float = Field(default=0.05, gt=0, lt=1, description="As a difference of shares: 0.05 is five points.")


class LatencyCompared(_Rule):
    """A quantile of the candidate's latency is at most so many times the stable release's."""

    rule: Literal[RuleName.LATENCY_COMPARED] = RuleName.LATENCY_COMPARED
    metric: LatencyMetric = LatencyMetric.E2E
    quantile: float = Field(default=0.95, ge=0.5, le=0.99)
    max_ratio: float = Field(default=1.5, gt=1, le=100)


class FeedbackCompared(_Rule):
    """The candidate's share of approving feedback is at most so much below the stable release's."""

    rule: Literal[RuleName.FEEDBACK_COMPARED] = RuleName.FEEDBACK_COMPARED
    max_decrease: float = Field(default=0.1, gt=0, lt=1, description="As a difference of shares.")


class PrometheusLimit(_Rule):
    """A Prometheus query's value stays on one side of a bound. It needs the controller's ``QUANTRY_PROMETHEUS_URL``."""

    rule: Literal[RuleName.PROMETHEUS_LIMIT] = RuleName.PROMETHEUS_LIMIT
    query: str = Field(
        min_length=1,
        max_length=2000,
        description="PromQL that answers one number. ``{release}``, ``{deployment}`` and ``{seconds}`` stand for the candidate's id, "
        "the deployment's name and the seconds since the candidate first got traffic.",
    )
    max_value: float | None = None
    min_value: float | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.max_value is None and self.min_value is None:
            raise ValueError("neither max_value nor min_value is set: the query's value could be anything")
        if self.max_value is not None and self.min_value is not None and self.min_value > self.max_value:
            raise ValueError(f"min_value {self.min_value:g} is above max_value {self.max_value:g}: no value could pass")
        return self


Rule = Annotated[
    ErrorRateLimit | LatencyLimit | ErrorRateCompared | LatencyCompared | FeedbackCompared | PrometheusLimit, Field(discriminator="rule")
]


class AnalysisSpec(BaseModel):
    """The rules of a rollout. All must pass; one that fails fails the candidate."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: list[Rule] = Field(default=[ErrorRateCompared(), LatencyCompared()], min_length=1, max_length=20)
    error_probability: float = Field(
        default=0.05,
        gt=0,
        lt=0.5,
        description="Bound on the chance that any verdict, however often it is looked at, is wrong. Shared out between the rules.",
    )
    min_requests: int = Field(default=20, ge=1, le=1_000_000_000, description="Of the candidate; with fewer no verdict is pass.")
