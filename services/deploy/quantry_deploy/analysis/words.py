"""Figures as people read them."""

from __future__ import annotations

from quantry_core.rules import LatencyMetric

METRICS = {LatencyMetric.TTFT: "time to first token", LatencyMetric.TPOT: "time per output token", LatencyMetric.E2E: "latency"}
NUM_SHOWN = 120


def percent(share: float) -> str:
    """Returns a share: 4.25%, 0.03%, 100%."""
    return f"{_short(100 * share)}%"


def points(difference: float) -> str:
    """Returns a difference of shares, in points of a hundred: 4.8 points."""
    text = _short(100 * difference)
    return f"{text} point" if text == "1" else f"{text} points"


def nats(value: float) -> str:
    """Returns a difference of logprobs: 0.21 nats."""
    return f"{_short(value)} nats"


def seconds(value_s: float | None) -> str:
    """Returns a latency: 850 ms, 1.25 s; "unknown" where there is none."""
    if value_s is None:
        return "unknown"
    return f"{_short(value_s)} s" if value_s >= 1 else f"{_short(1000 * value_s)} ms"


def quantile(share: float) -> str:
    """Returns the name of a quantile: p95, p99.5."""
    return f"p{100 * share:g}"


def excerpt(query: str) -> str:
    """Returns a query, or its beginning if it is long."""
    return query if len(query) <= NUM_SHOWN else f"{query[: NUM_SHOWN - 3]}..."


def _short(value: float) -> str:
    """Returns three digits that count, at most four behind the point, and never an exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    text = f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.4f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
