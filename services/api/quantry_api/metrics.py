"""What Prometheus is told. Counters begin at zero with the process; gauges are read from the database at each scrape."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, generate_latest

from quantry_core.errors import StaleAttempt
from quantry_http.auth import Db
from quantry_http.problems import on_quantry_error
from quantry_store.unit_of_work import UnitOfWork

NO_QUEUE = "none"
"""Label of deploy jobs, which are in no queue."""

router = APIRouter()


class ApiMetrics:
    """The metrics of one app, in a registry of their own: two apps in one process count apart."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.jobs_ended = Counter(
            "quantry_jobs_ended",
            "Jobs that this replica ended; poison is a reason.",
            ["type", "status", "reason"],
            registry=self.registry,
        )
        self.attempts_lost = Counter(
            "quantry_attempts_lost", "Attempts whose worker was lost, by lease or by report.", registry=self.registry
        )
        self.stale_writes = Counter(
            "quantry_stale_writes", "Writes refused because their attempt no longer held the job.", registry=self.registry
        )
        self.wakes_failed = Counter(
            "quantry_wakes_failed", "Wake messages that the broker did not take; the sweep makes up for them.", registry=self.registry
        )
        self.jobs = Gauge("quantry_jobs", "Jobs that have not ended.", ["queue", "status"], registry=self.registry)
        self.workers_alive = Gauge("quantry_workers_alive", "Workers that were heard of in the last minute.", registry=self.registry)

    def committed(self, uow: UnitOfWork) -> None:
        """Counts what a transaction did, after its commit."""
        for ended in uow.jobs.ended:
            self.jobs_ended.labels(ended.type, ended.status, ended.reason or "").inc()
        if uow.jobs.num_lost:
            self.attempts_lost.inc(uow.jobs.num_lost)

    async def read(self, uow: UnitOfWork) -> None:
        """Sets the gauges to what the database says."""
        counts = await uow.counts.unfinished_jobs()
        num_alive = await uow.counts.alive_workers()
        # Cleared and set with nothing awaited in between: a queue that is empty now must not keep its last number.
        self.jobs.clear()
        for one in counts:
            self.jobs.labels(one.queue or NO_QUEUE, one.status).set(one.num_jobs)
        self.workers_alive.set(num_alive)


def count_stale_writes(app: FastAPI, metrics: ApiMetrics) -> None:
    """Has every refusal of a stale attempt counted, whichever endpoint it comes from."""

    async def on_stale_attempt(request: Request, error: Exception) -> Response:
        metrics.stale_writes.inc()
        return await on_quantry_error(request, error)

    app.add_exception_handler(StaleAttempt, on_stale_attempt)


@router.get("/metrics", include_in_schema=False)
async def show_metrics(request: Request, db: Db) -> Response:
    """Answers the metrics as Prometheus text. No key: the gateway does not forward this path."""
    metrics: ApiMetrics = request.app.state.metrics
    async with db.begin() as uow:
        await metrics.read(uow)
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)
