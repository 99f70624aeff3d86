"""What the gateway counts for Prometheus. A request costs a few additions; what can be read when somebody asks is read then.

Deployments are named by their ids, never by the names their projects gave them. Series of what is no longer routed are removed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from quantry_gateway import gen_ai_metrics
from quantry_gateway.balancer import Balancer
from quantry_gateway.outcomes import Outcome, OutcomeKind
from quantry_gateway.paths import Plane
from quantry_gateway.queues import Queues
from quantry_gateway.table import CompiledRoutes, RouteTable
from quantry_telemetry.registry import service_registry

MAX_DEPLOYMENTS = 200
"""Beyond it deployments are counted together, as OTHER: one series each would be more than a scrape should carry."""
OTHER = "other"

NO_STATUS = "none"
"""Label of requests whose client left before they were answered."""

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
FIRST_TOKEN_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

_ROLES = ("deployment", "role")


class GatewayMetrics:
    """The metrics of one gateway, in a registry of their own."""

    def __init__(self, *, with_gen_ai: bool = False) -> None:
        self.registry = service_registry("gateway")
        self._gen_ai = gen_ai_metrics.GenAiMetrics(self.registry) if with_gen_ai else None
        self._requests = Counter(
            "quantry_gateway_requests", "Requests that were answered, or left by their client.", ["plane", "status"], registry=self.registry
        )
        self._in_flight = Gauge("quantry_gateway_requests_in_flight", "Requests that are not over.", ["plane"], registry=self.registry)
        self._by_status: dict[tuple[Plane, int | None], Counter] = {}
        self._open = {plane: self._in_flight.labels(plane) for plane in Plane}
        self._series = _Series(self.registry)
        self._by_release: dict[str, _ReleaseSeries] = {}

    def began(self, plane: Plane) -> None:
        """One more request is under way."""
        self._open[plane].inc()

    def ended(self, plane: Plane, status: int | None) -> None:
        """One is over; ``status`` is None where its client left first."""
        self._open[plane].dec()
        counter = self._by_status.get((plane, status))
        if counter is None:
            counter = self._requests.labels(plane, NO_STATUS if status is None else str(status))
            self._by_status[plane, status] = counter
        counter.inc()

    def tell(self, outcome: Outcome) -> None:
        """Counts how one request ended at a release; a sink of outcomes."""
        series = self._by_release.get(outcome.release_id)
        if series is not None:
            series.add(outcome)
        if self._gen_ai is not None:
            self._gen_ai.add(outcome)

    def follow(self, compiled: CompiledRoutes) -> None:
        """Takes the newest routes: which release is which deployment's stable one or candidate."""
        routes = [route for routes in compiled.by_project.values() for route in routes.values() if route.parent is None]
        by_age = sorted(routes, key=lambda route: (route.created_at, route.deployment_id))
        known = {route.deployment_id for route in by_age[:MAX_DEPLOYMENTS]}
        self._by_release = {
            variant.release_id: self._series.of(route.deployment_id if route.deployment_id in known else OTHER, variant.role)
            for route in by_age
            for variant in route.variants
        }
        self._series.keep_only(set(self._by_release.values()))

    def watch(self, state: GatewayState) -> None:
        """Shows what the gateway holds, read at each scrape."""
        self.registry.register(state)

    def forget(self, state: GatewayState) -> None:
        """Shows it no more."""
        self.registry.unregister(state)


@dataclass(frozen=True)
class GatewayState:
    """Routes, queues and ejected replicas as they are. Called from the thread that serves metrics: it only reads."""

    table: RouteTable
    balancer: Balancer
    queues: Queues
    num_waiting: Callable[[], int]
    """Requests that wait for a deployment's first replica."""
    heard_at_s: Callable[[], float | None]
    """When the api last said what the routes are; None: never yet."""
    clock_s: Callable[[], float] = time.monotonic

    def collect(self) -> Iterator[Metric]:
        """Yields the families."""
        routes = self.table.current
        heard_at_s = self.heard_at_s()
        yield GaugeMetricFamily(
            "quantry_gateway_routes_revision", "Revision of the routes that are served.", value=0 if routes is None else routes.revision
        )
        age = GaugeMetricFamily(
            "quantry_gateway_routes_age_seconds", "Since the api last said what the routes are, or that they are the same."
        )
        if heard_at_s is not None:
            age.add_metric([], self.clock_s() - heard_at_s)
        yield age
        replicas = frozenset() if routes is None else routes.replica_ids()
        yield GaugeMetricFamily("quantry_gateway_replicas", "Replicas that are routed to.", value=len(replicas))
        yield GaugeMetricFamily(
            "quantry_gateway_replicas_ejected", "Those of them that get no request for now.", value=self.balancer.num_out(replicas)
        )
        yield CounterMetricFamily(
            "quantry_gateway_ejections", "How often a replica was left out for its failures.", value=self.balancer.num_ejections
        )
        yield GaugeMetricFamily("quantry_gateway_queue_depth", "Requests that wait for room at a release.", value=self.queues.num_waiting())
        yield GaugeMetricFamily(
            "quantry_gateway_wake_waiting", "Requests that wait for a deployment's first replica.", value=self.num_waiting()
        )


class _Series:
    """The metrics that have a series for each deployment and role."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.outcomes = Counter(
            "quantry_gateway_outcomes", "Requests that reached a release, by how they ended.", [*_ROLES, "outcome"], registry=registry
        )
        self.seconds = Histogram(
            "quantry_gateway_answer_duration_seconds",
            "From a request's arrival at a release, its wait for room included, to the end of its whole answer.",
            _ROLES,
            buckets=SECONDS,
            registry=registry,
        )
        self.first_token = Histogram(
            "quantry_gateway_time_to_first_token_seconds",
            "From a streamed request's arrival at a release to the first byte that was passed on.",
            _ROLES,
            buckets=FIRST_TOKEN_SECONDS,
            registry=registry,
        )
        self.tokens = Counter("quantry_gateway_tokens", "Tokens, as answers say.", [*_ROLES, "kind"], registry=registry)
        self.retries = Counter("quantry_gateway_retries", "Further replicas that requests were tried at.", _ROLES, registry=registry)
        self._known: dict[tuple[str, str], _ReleaseSeries] = {}

    def of(self, deployment_id: str, role: str) -> _ReleaseSeries:
        """Returns the series of a deployment's role; the same ones each time, until they are removed."""
        series = self._known.get((deployment_id, role))
        if series is None:
            series = self._known[deployment_id, role] = _ReleaseSeries(self, deployment_id, role)
        return series

    def keep_only(self, wanted: set[_ReleaseSeries]) -> None:
        """Removes the series of every deployment and role that is not among these."""
        for labels in [labels for labels, series in self._known.items() if series not in wanted]:
            del self._known[labels]
            for family in (self.seconds, self.first_token, self.retries):
                family.remove(*labels)
            for kind in OutcomeKind:
                self.outcomes.remove(*labels, kind)
            for kind_of_token in ("prompt", "completion"):
                self.tokens.remove(*labels, kind_of_token)


class _ReleaseSeries:
    """The series of one deployment and role, looked up once."""

    def __init__(self, families: _Series, deployment_id: str, role: str) -> None:
        labels = (deployment_id, role)
        self._outcomes = {kind: families.outcomes.labels(*labels, kind) for kind in OutcomeKind}
        self._seconds = families.seconds.labels(*labels)
        self._first_token = families.first_token.labels(*labels)
        self._prompt = families.tokens.labels(*labels, "prompt")
        self._completion = families.tokens.labels(*labels, "completion")
        self._retries = families.retries.labels(*labels)

    def add(self, outcome: Outcome) -> None:
        """Counts one finished request."""
        self._outcomes[outcome.kind].inc()
        if outcome.kind is OutcomeKind.ANSWERED:
            self._seconds.observe(outcome.ended_s - outcome.began_s)
        if outcome.first_byte_s is not None:
            self._first_token.observe(outcome.first_byte_s - outcome.began_s)
        if outcome.prompt_tokens:
            self._prompt.inc(outcome.prompt_tokens)
        # A stream that does not tell its usage: engines send an event for each token or few.
        if completion := outcome.completion_tokens or outcome.num_events:
            self._completion.inc(completion)
        if outcome.num_retried:
            self._retries.inc(outcome.num_retried)
