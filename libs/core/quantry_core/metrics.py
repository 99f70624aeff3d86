"""What an evaluation measures: one literal table of metrics, with unit and direction, shared by gates, cards and pages."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Better(StrEnum):
    """In which direction a metric is good."""

    LOWER = "lower"
    HIGHER = "higher"


class MetricInfo(BaseModel):
    """One row of the metric table."""

    model_config = ConfigDict(frozen=True)

    name: str
    unit: str
    better: Better
    needs_reference: bool
    words: str = Field(description="What it is, in one sentence.")


def _metric(name: str, unit: str, better: Better, words: str, *, needs_reference: bool = True) -> MetricInfo:
    return MetricInfo(name=name, unit=unit, better=better, needs_reference=needs_reference, words=words)


METRICS: dict[str, MetricInfo] = {
    metric.name: metric
    for metric in (
        _metric("perplexity", "", Better.LOWER, "exp of the mean negative log-likelihood.", needs_reference=False),
        _metric("nll_mean", "nats", Better.LOWER, "Mean negative log-likelihood of the real next token.", needs_reference=False),
        _metric("perplexity_ratio", "", Better.LOWER, "Perplexity over the reference's."),
        _metric("perplexity_ratio_low", "", Better.LOWER, "Lower end of that ratio's 95% interval, by paired bootstrap."),
        _metric("perplexity_ratio_high", "", Better.LOWER, "Upper end of that ratio's 95% interval, by paired bootstrap."),
        _metric("nll_increase_nats", "nats", Better.LOWER, "Mean change in log-loss per token against the reference."),
        _metric("nll_increase_low_nats", "nats", Better.LOWER, "Lower end of that change's 95% interval, by paired bootstrap."),
        _metric("nll_increase_high_nats", "nats", Better.LOWER, "Upper end of that change's 95% interval, by paired bootstrap."),
        _metric("kl_mean_nats", "nats", Better.LOWER, "Mean KL divergence of the next-token distribution from the reference's."),
        _metric("kl_p99_nats", "nats", Better.LOWER, "99th percentile of that divergence over tokens."),
        _metric("kl_p999_nats", "nats", Better.LOWER, "99.9th percentile of that divergence over tokens."),
        _metric("kl_max_nats", "nats", Better.LOWER, "Largest of that divergence over tokens."),
        _metric("top1_agreement", "share", Better.HIGHER, "How often both find the same next token likeliest."),
        _metric("logprob_error_mean_nats", "nats", Better.LOWER, "Mean absolute error of the log-probability of the real next token."),
        _metric("logprob_error_p99_nats", "nats", Better.LOWER, "99th percentile of that error over tokens."),
        _metric("attention_similarity_min", "share", Better.HIGHER, "Least cosine similarity of a layer's attention with the reference's."),
        _metric("attention_similarity_mean", "share", Better.HIGHER, "Mean of that similarity over layers."),
        _metric(
            "attention_js_max_nats", "nats", Better.LOWER, "Largest Jensen-Shannon divergence of a layer's attention from the reference's."
        ),
    )
}
"""Metrics of text and of attention maps; thresholds.py has those of everything else."""
ATTENTION_METRICS = frozenset(name for name in METRICS if name.startswith("attention_"))
"""Measured on attention maps, where they are asked for; all others on each corpus."""
