"""What Prometheus is told. Counters begin at zero with the process; gauges are read from the database at each scrape.

No label names a project, or anything that one named: whoever may read metrics reads of all projects at once.
"""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from prometheus_client import Counter, Gauge

from quantry_core.errors import StaleAttempt
from quantry_core.jobs.states import REASONS, JobType
from quantry_core.retention import RetentionRun, RetentionRunStatus
from quantry_http.problems import on_quantry_error
from quantry_store.unit_of_work import UnitOfWork
from quantry_telemetry.loops import LoopMetrics
from quantry_telemetry.registry import service_registry

NO_QUEUE = "none"
"""Label of deploy jobs, which are in no queue."""


class ApiMetrics:
    """The metrics of one app, in a registry of their own: two apps in one process count apart."""

    def __init__(self) -> None:
        self.registry = service_registry("api")
        self.loops = LoopMetrics(self.registry)
        self.jobs_ended = Counter(
            "quantry_jobs_ended",
            "Jobs that this replica ended; poison is a reason.",
            ["type", "status", "reason"],
            registry=self.registry,
        )
        # From zero on, or the first job that ends so would be no increase to an alert.
        for job_type in JobType:
            for reason, info in REASONS.items():
                self.jobs_ended.labels(job_type, info.final_status, reason)
        self.attempts_lost = Counter(
            "quantry_attempts_lost",
            "Attempts whose worker was lost, by a lease that expired or by report.",
            registry=self.registry,
        )
        self.stale_writes = Counter(
            "quantry_stale_writes", "Writes refused because their attempt no longer held the job.", registry=self.registry
        )
        self.wakes_failed = Counter(
            "quantry_wakes_failed", "Wake messages that the broker did not take; the sweep makes up for them.", registry=self.registry
        )
        self.jobs = Gauge("quantry_jobs", "Jobs that have not ended.", ["queue", "status"], registry=self.registry)
        self.oldest_age = Gauge(
            "quantry_queue_oldest_job_age_seconds",
            "Since the oldest job of the queue that nobody has taken was queued or submitted.",
            ["queue"],
            registry=self.registry,
        )
        self.leases_expired = Gauge(
            "quantry_leases_expired", "Running jobs whose lease is over and that no sweep has taken back yet.", registry=self.registry
        )
        self._webhook_attempts = Counter(
            "quantry_webhook_attempts",
            "Attempts to send a webhook's message, by whether it was taken.",
            ["outcome"],
            registry=self.registry,
        )
        self.webhooks_pending = Gauge(
            "quantry_webhook_deliveries_pending", "Messages to webhooks that have not arrived and are not given up.", registry=self.registry
        )
        self._removed = Counter(
            "quantry_retention_removed",
            "Rows, files and versions whose time was over, removed by this replica's runs.",
            ["kind"],
            registry=self.registry,
        )
        self._removed_bytes = Counter(
            "quantry_retention_removed_bytes", "Bytes of what retention removed, as it was stored.", ["kind"], registry=self.registry
        )
        self.retention_succeeded_at = Gauge(
            "quantry_retention_last_success_timestamp_seconds",
            "When a run that removes last ended without an error, since 1970; 0: never, or the last one failed.",
            registry=self.registry,
        )
        self.workers_alive = Gauge("quantry_workers_alive", "Workers that were heard of in the last minute.", registry=self.registry)
        self.slots_alive = Gauge(
            "quantry_worker_slots_alive", "Slots of those workers, by the queues they serve.", ["queue"], registry=self.registry
        )

    def committed(self, uow: UnitOfWork) -> None:
        """Counts what a transaction did, after its commit."""
        for ended in uow.jobs.ended:
            self.jobs_ended.labels(ended.type, ended.status, ended.reason or "").inc()
        if uow.jobs.num_lost:
            self.attempts_lost.inc(uow.jobs.num_lost)

    def webhook_attempted(self, is_taken: bool) -> None:
        """Counts one attempt to send a webhook's message."""
        self._webhook_attempts.labels("taken" if is_taken else "failed").inc()

    def retention_ended(self, run: RetentionRun) -> None:
        """Counts what a run of retention removed that this replica ended; a dry run removes nothing."""
        if run.dry_run:
            return
        for count in run.counts:
            self._removed.labels(count.kind).inc(count.num_removed)
            self._removed_bytes.labels(count.kind).inc(count.size_bytes)

    async def read(self, uow: UnitOfWork) -> None:
        """Sets the gauges to what the database says."""
        counts = await uow.counts.unfinished_jobs()
        ages = await uow.counts.oldest_queued_s()
        num_expired = await uow.counts.expired_leases()
        num_alive = await uow.counts.alive_workers()
        slots = await uow.counts.alive_slots()
        num_pending = await uow.counts.pending_deliveries()
        last_run = await uow.retention.runs.last_finished()
        # Cleared and set with nothing awaited in between: a queue that is empty now must not keep its last number.
        for gauge in (self.jobs, self.oldest_age, self.slots_alive):
            gauge.clear()
        for one in counts:
            self.jobs.labels(one.queue or NO_QUEUE, one.status).set(one.num_jobs)
        for queue, age_s in ages.items():
            self.oldest_age.labels(queue).set(age_s)
        for queue, num_slots in slots.items():
            self.slots_alive.labels(queue).set(num_slots)
        self.leases_expired.set(num_expired)
        self.workers_alive.set(num_alive)
        self.webhooks_pending.set(num_pending)
        has_succeeded = last_run is not None and last_run.status is RetentionRunStatus.SUCCEEDED
        self.retention_succeeded_at.set(last_run.finished_at.timestamp() if has_succeeded and last_run and last_run.finished_at else 0)


def count_stale_writes(app: FastAPI, metrics: ApiMetrics) -> None:
    """Has every refusal of a stale attempt counted, whichever endpoint it comes from."""

    async def on_stale_attempt(request: Request, error: Exception) -> Response:
        metrics.stale_writes.inc()
        return await on_quantry_error(request, error)

    app.add_exception_handler(StaleAttempt, on_stale_attempt)
