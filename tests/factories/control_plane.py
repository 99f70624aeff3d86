"""A control plane for the worker's tests: hands out jobs over HTTP and keeps what it is told. It decides nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from quantry_core.errors import StaleAttempt
from quantry_core.execution import EventDraft, EventsRequest, FinishRequest, HeartbeatReply, HeartbeatRequest, Lease, LeasedInput
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import ImportSpec, Job, JobSpec, JobStatus, JobType, Queue
from quantry_core.keys import Identity, Role


def running_job(spec: JobSpec | None = None, *, attempt: int = 1) -> Job:
    """Returns a job as it is just after a claim."""
    chosen = ImportSpec(model="bard", source="/models/bard") if spec is None else spec
    now = datetime.now(UTC)
    return Job(
        id=new_id(IdPrefix.JOB),
        project_id=new_id(IdPrefix.PROJECT),
        type=JobType(chosen.type),
        status=JobStatus.RUNNING,
        spec=chosen,
        queue=Queue.CPU,
        priority=5,
        attempt=attempt,
        num_lost_attempts=0,
        created_at=now,
        started_at=now,
    )


def lease_of(job: Job, *, inputs: list[LeasedInput] | None = None, lease_s: float = 60.0, heartbeat_s: float = 10.0) -> Lease:
    """Returns a lease on a job's current attempt."""
    return Lease(job=job, attempt=job.attempt, inputs=inputs or [], lease_s=lease_s, heartbeat_s=heartbeat_s)


class ControlPlane:
    """What the worker's HTTP requests reach. The tests fill ``leases`` and set the flags; everything else is kept for them."""

    def __init__(self) -> None:
        self.leases: list[Lease] = []
        self.cancelled: set[str] = set()
        self.stale: set[str] = set()
        self.events: list[EventDraft] = []
        self.heartbeats: list[HeartbeatRequest] = []
        self.finishes: list[FinishRequest] = []
        self.changed = threading.Condition()
        self.jobs: dict[str, Job] = {}

    def answer(self, path: str, body: bytes) -> tuple[int, str]:
        """Returns the status and the JSON body for a request."""
        with self.changed:
            self.changed.notify_all()
            if path == "/api/v1/whoami":
                return 200, Identity(key_id="key", project_id="prj", role=Role.WORKER).model_dump_json()
            if path == "/api/v1/execution/next":
                return self._next()
            job_id, _, action = path.removeprefix("/api/v1/execution/jobs/").partition("/")
            if job_id in self.stale:
                return StaleAttempt.status, StaleAttempt("not yours").problem().model_dump_json()
            return 200, self._take(job_id, action, body)

    def _take(self, job_id: str, action: str, body: bytes) -> str:
        match action:
            case "heartbeat":
                self.heartbeats.append(HeartbeatRequest.model_validate_json(body))
                return HeartbeatReply(lease_s=60, cancel_requested=job_id in self.cancelled).model_dump_json()
            case "events":
                self.events.extend(EventsRequest.model_validate_json(body).events)
                return "{}"
            case "finish":
                self.finishes.append(FinishRequest.model_validate_json(body))
                return self.jobs[job_id].model_dump_json()
            case _:
                raise AssertionError(f"no worker should ask for {action!r}")

    def log_text(self) -> str:
        """Returns all log lines so far."""
        with self.changed:
            return "\n".join(str(event.data["text"]) for event in self.events if event.kind == "log")

    def wait_for_finish(self, count: int = 1, timeout_s: float = 30.0) -> FinishRequest:
        """Returns the last finish once there are ``count``."""
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.finishes) >= count, timeout_s), f"no finish; events: {self.events}"
            return self.finishes[-1]

    def _next(self) -> tuple[int, str]:
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

        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing: the tests' output is for the tests."""

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, answer = plane.answer(self.path, body)
            content = answer.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
