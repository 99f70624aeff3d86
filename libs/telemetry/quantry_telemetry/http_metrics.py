"""What an HTTP service counts of its requests. Labels are templates of addresses, never addresses: their number is that of the routes."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

NO_ROUTE = "none"
"""Label of requests for an address that there is not."""
NO_ANSWER = "none"
"""Label of requests that their client left before they were answered."""

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class HttpMetrics:
    """Requests of one service."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "quantry_http_requests",
            "Requests that were answered, or left by their client.",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "quantry_http_request_duration_seconds",
            "From a request's head to the first byte of its answer; streams go on after that.",
            ["method", "route"],
            buckets=SECONDS,
            registry=registry,
        )
        self._open = Gauge("quantry_http_requests_in_flight", "Requests that are not over, open streams among them.", registry=registry)

    def began(self) -> None:
        """One more is under way."""
        self._open.inc()

    def ended(self, method: str, route: str | None, status: int | None, head_after_s: float | None) -> None:
        """One is over. ``head_after_s``: seconds until its answer began; None where there was none."""
        self._open.dec()
        method = method if method in _METHODS else "other"
        route = NO_ROUTE if route is None else route
        self._requests.labels(method, route, NO_ANSWER if status is None else str(status)).inc()
        if head_after_s is not None:
            self._seconds.labels(method, route).observe(head_after_s)
