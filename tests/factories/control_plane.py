"""A control plane for the worker's tests: hands out jobs over HTTP and keeps what it is told. It decides nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

from factories.threaded_server import serving_threads
from quantry_core.errors import StaleAttempt
from quantry_core.execution import (
    EventDraft,
    EventsRequest,
    FinishRequest,
    HeartbeatReply,
    HeartbeatRequest,
    Lease,
    LeasedInput,
    NextRequest,
)
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import CPU_QUEUE, ImportSpec, Job, JobLimits, JobSpec, JobStatus, JobType, Queue
from quantry_core.workers import WorkerHello


def running_job(
    spec: JobSpec | None = None, *, attempt: int = 1, queue: Queue = CPU_QUEUE, time_s: int | None = None, memory_bytes: int | None = None
) -> Job:
    """Returns a job as it is just after a claim."""
    chosen = ImportSpec(model="bard", source="/models/bard") if spec is None else spec
    now = datetime.now(UTC)
    return Job(
        id=new_id(IdPrefix.JOB),
        project_id=new_id(IdPrefix.PROJECT),
        type=JobType(chosen.type),
        status=JobStatus.RUNNING,
        spec=chosen,
        queue=queue,
        priority=5,
        limits=JobLimits(time_s=time_s, memory_bytes=memory_bytes),
        attempt=attempt,
        num_lost_attempts=0,
        created_at=now,
        started_at=now,
    )


def lease_of(job: Job, *, inputs: list[LeasedInput] | None = None, lease_s: float = 60.0, heartbeat_s: float = 4.0) -> Lease:
    """Returns a lease on a job's current attempt."""
    return Lease(job=job, attempt=job.attempt, inputs=inputs or [], lease_s=lease_s, heartbeat_s=heartbeat_s)


class ControlPlane:
    """What the worker's HTTP requests reach. The tests fill ``leases`` and set the flags; everything else is kept for them."""

    def __init__(self) -> None:
        self.leases: list[Lease] = []
        self.cancelled: set[str] = set()
        self.stale: set[str] = set()
        self.hellos: dict[str, WorkerHello] = {}
        self.claims: list[NextRequest] = []
        self.events: list[EventDraft] = []
        self.num_stored: dict[tuple[str, int], int] = {}
        self.lease_s = 60.0
        self.paths: list[str] = []
        self.heartbeats: list[HeartbeatRequest] = []
        self.finishes: list[FinishRequest] = []
        self.changed = threading.Condition()
        self.jobs: dict[str, Job] = {}

    def answer(self, path: str, body: bytes) -> tuple[int, str]:
        """Returns the status and the JSON body for a request."""
        with self.changed:
            self.changed.notify_all()
            self.paths.append(path)
            if path.startswith("/api/v1/execution/workers/"):
                self.hellos[path.rpartition("/")[2]] = WorkerHello.model_validate_json(body)
                return 204, ""
            if path == "/api/v1/execution/next":
                return self._next(NextRequest.model_validate_json(body))
            job_id, _, action = path.removeprefix("/api/v1/execution/jobs/").partition("/")
            if job_id in self.stale:
                return StaleAttempt.status, StaleAttempt("not yours").problem().model_dump_json()
            return 200, self._take(job_id, action, body)

    def _take(self, job_id: str, action: str, body: bytes) -> str:
        match action:
            case "heartbeat":
                self.heartbeats.append(HeartbeatRequest.model_validate_json(body))
                return HeartbeatReply(lease_s=self.lease_s, cancel_requested=job_id in self.cancelled).model_dump_json()
            case "events":
                self._append(job_id, EventsRequest.model_validate_json(body))
                return "{}"
            case "finish":
                self.finishes.append(FinishRequest.model_validate_json(body))
                return self.jobs[job_id].model_dump_json()
            case _:
                raise AssertionError(f"no worker should ask for {action!r}")

    def _append(self, job_id: str, request: EventsRequest) -> None:
        num_stored = self.num_stored.get((job_id, request.attempt), 0)
        assert request.offset <= num_stored, "events are missing"
        new = request.events[num_stored - request.offset :]
        self.num_stored[job_id, request.attempt] = num_stored + len(new)
        self.events.extend(new)

    def log_text(self) -> str:
        """Returns all log lines so far."""
        with self.changed:
            return "\n".join(str(event.data["text"]) for event in self.events if event.kind == "log")

    def wait_for_finish(self, count: int = 1, timeout_s: float = 30.0) -> FinishRequest:
        """Returns the last finish once there are ``count``."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.finishes) >= count, timeout_s), f"no finish; events: {self.events}"
            return self.finishes[-1]

    def _next(self, request: NextRequest) -> tuple[int, str]:
        self.claims.append(request)
        if not self.leases:
            return 204, ""
        lease = self.leases.pop(0)
        self.jobs[lease.job.id] = lease.job
        return 200, lease.model_dump_json()


@contextmanager
def serving(plane: ControlPlane) -> Iterator[str]:
    """Serves a control plane on loopback; yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # One packet for head and body: two would wait for the other side's delayed acknowledgement.
        wbufsize = -1

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_PUT(self) -> None:
            self._answer()

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing: the tests' output is for the tests."""

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = plane.answer(self.path, body)
            content = answer.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            if status != 204:
                self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    with serving_threads(Handler) as url:
        yield url
