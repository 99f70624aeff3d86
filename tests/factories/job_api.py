"""A public API of jobs, what they made and what is served, in memory, over HTTP, for the dashboard's tests: they set what it says
and see what it was asked.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel

from factories.registry_api import RegistryApi
from factories.serving_api import ServingApi
from factories.threaded_server import serving_threads
from factories.work_api import WorkApi
from quantry_core.errors import Forbidden, QuantryError, Unauthorized, UnknownJob
from quantry_core.ids import IdPrefix, new_id
from quantry_core.jobs import (
    CPU_QUEUE,
    FINAL_STATUSES,
    CalibrationSpec,
    CurvePoint,
    EventKind,
    Job,
    JobCheckpoint,
    JobCurve,
    JobEvent,
    JobReason,
    JobSpec,
    JobStatus,
    JobType,
    Progress,
    QuantizeSpec,
    parse_selector,
)
from quantry_core.keys import Identity, Role
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.rollouts import Deployment
from quantry_core.versions import ManifestFile, VersionDetail

OPERATOR_KEY = "qtr_operator"
VIEWER_KEY = "qtr_viewer"
WORKER_KEY = "qtr_worker"
REGISTRY_PATHS = ("/api/v1/models", "/api/v1/versions", "/api/v1/datasets")
"""What the registry answers begins so."""
PROJECT = "prj_0197f0a0000070008000000000000001"


def a_spec(base: str = "bard-6m") -> QuantizeSpec:
    """Returns a small quantize spec."""
    return QuantizeSpec(base=base, method="gptq", scheme="W4A16", calibration=CalibrationSpec(datasets=["kjv.calibration"]))


def a_job(status: JobStatus = JobStatus.RUNNING, *, spec: JobSpec | None = None, age_s: float = 60.0, **changes: Any) -> Job:
    """Returns a job of this status, made and started some time ago; ``changes`` replace fields."""
    chosen = a_spec() if spec is None else spec
    created_at = datetime.now(UTC) - timedelta(seconds=age_s)
    has_run = status not in {JobStatus.WAITING, JobStatus.QUEUED}
    reasons = {JobStatus.SUCCEEDED: JobReason.COMPLETED, JobStatus.FAILED: JobReason.INTERNAL, JobStatus.CANCELLED: JobReason.CANCELLED}
    fields: dict[str, Any] = {
        "id": new_id(IdPrefix.JOB),
        "project_id": PROJECT,
        "type": JobType(chosen.type),
        "status": status,
        "reason": reasons.get(status),
        "spec": chosen,
        "queue": CPU_QUEUE,
        "priority": 5,
        "attempt": 1 if has_run else 0,
        "num_lost_attempts": 0,
        "progress": Progress(phase="quantize", fraction=0.25) if status is JobStatus.RUNNING else None,
        "created_at": created_at,
        "started_at": created_at + timedelta(seconds=1) if has_run else None,
        "finished_at": created_at + timedelta(seconds=age_s / 2) if status in FINAL_STATUSES else None,
        **changes,
    }
    return Job.model_validate(fields)


class JobApi:
    """What the API says. Hold ``lock`` to change more than one thing at once."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.jobs: dict[str, Job] = {}
        self.events: dict[str, list[JobEvent]] = {}
        self.logs: dict[str, list[str]] = {}
        self.points: dict[str, list[CurvePoint]] = {}
        self.checkpoints: dict[str, list[JobCheckpoint]] = {}
        self.artifacts: dict[str, dict[str, str]] = {}
        """Of a job's id: texts by the path of the file they are in."""
        self.versions: dict[str, VersionDetail] = {}
        self.registry = RegistryApi(self.versions)
        self.serving = ServingApi()
        self.work = WorkApi(self.jobs, self.add)
        self.roles: dict[str, Role] = {}
        self.refusal: QuantryError | None = None
        """Answered to everything while it is set."""
        self.registry_refusal: QuantryError | None = None
        """Answered to what is asked of versions while it is set."""
        self.requests: list[str] = []
        self.num_streams = 0
        """Event streams that are open now."""
        self._retries: dict[str, str] = {}
        self.forget()

    def forget(self) -> None:
        """Begins anew, for the next test."""
        with self.lock:
            for kept in (self.jobs, self.events, self.logs, self.points, self.checkpoints, self.artifacts, self.versions, self._retries):
                kept.clear()
            self.requests.clear()
            self.registry.forget()
            self.serving.forget()
            self.work.forget()
            self.roles = {OPERATOR_KEY: Role.OPERATOR, VIEWER_KEY: Role.VIEWER, WORKER_KEY: Role.WORKER}
            self.refusal = self.registry_refusal = None

    @property
    def deployments(self) -> list[Deployment]:
        """What is served."""
        return self.serving.deployments

    def add(self, job: Job) -> Job:
        """Keeps a job and returns it."""
        with self.lock:
            self.jobs[job.id] = job
            self.lock.notify_all()
        return job

    def change(self, job: Job, **changes: Any) -> Job:
        """Replaces fields of a job and returns it."""
        return self.add(self.jobs[job.id].model_copy(update=changes))

    def tell(self, job: Job, kind: EventKind, **data: Any) -> None:
        """Adds an event of a job."""
        with self.lock:
            events = self.events.setdefault(job.id, [])
            now = datetime.now(UTC)
            events.append(JobEvent(seq=len(events) + 1, job_id=job.id, attempt=1, kind=kind, data=data, created_at=now))
            self.lock.notify_all()

    def answer(
        self, method: str, path: str, query: dict[str, str], key: str, *, idempotency_key: str = "", body: bytes = b""
    ) -> tuple[int, str, str]:
        """Returns status, content type and body; raises QuantryError."""
        with self.lock:
            self.requests.append(f"{method} {path}")
            if self.refusal is not None:
                raise self.refusal
            role = self.roles.get(key)
            if role is None:
                raise Unauthorized("there is no such key")
            if path.startswith(REGISTRY_PATHS):
                return self._registry_answer(method, path.removeprefix("/api/v1"), query, role, body)
            said = self._said(method, path, query, role, body=body, idempotency_key=idempotency_key)
            if said is not None:
                return 200, "application/json", said.model_dump_json()
            job_id, _, action = path.removeprefix("/api/v1/jobs/").partition("/")
            if action == "retry" and idempotency_key in self._retries:
                return 200, "application/json", self.jobs[self._retries[idempotency_key]].model_dump_json()
            answer = self._about(self._job(job_id), method, action, query, role)
            if action == "retry":
                self._retries[idempotency_key] = Job.model_validate_json(answer[2]).id
            return answer

    def _said(self, method: str, path: str, query: dict[str, str], role: Role, *, body: bytes, idempotency_key: str) -> BaseModel | None:
        """Returns what is said of all but one job; None for that."""
        said = self.work.answer(method, path.removeprefix("/api/v1"), role, body, idempotency_key)
        if path == "/api/v1/whoami":
            said = Identity(key_id="key", project_id=PROJECT, role=role)
        elif said is not None:
            pass
        elif path == "/api/v1/jobs":
            said = self._page(query)
        elif path.startswith(("/api/v1/deployments", "/api/v1/rollouts")):
            said = self.serving.answer(method, path.removeprefix("/api/v1"), query, role, body)
        return said

    def stream(self, job_id: str, after: int, kinds: list[str]) -> Iterator[bytes]:
        """Yields a job's events as SSE until it has ended."""
        with self.lock:
            self.num_streams += 1
        try:
            while True:
                with self.lock:
                    job = self.jobs.get(job_id)
                    is_over = job is None or job.status in FINAL_STATUSES
                    fresh = [event for event in self.events.get(job_id, []) if event.seq > after]
                for event in fresh:
                    after = event.seq
                    if not kinds or event.kind in kinds:
                        yield f"id: {event.seq}\nevent: {event.kind}\ndata: {event.model_dump_json()}\n\n".encode()
                if is_over:
                    return
                yield b": still here\n\n" if not fresh else b""
                time.sleep(0.05)
        finally:
            with self.lock:
                self.num_streams -= 1
                self.lock.notify_all()

    def _job(self, job_id: str) -> Job:
        if job_id not in self.jobs:
            raise UnknownJob(f"there is no job {job_id!r}")
        return self.jobs[job_id]

    def _registry_answer(self, method: str, path: str, query: dict[str, str], role: Role, body: bytes) -> tuple[int, str, str]:
        if self.registry_refusal is not None:
            raise self.registry_refusal
        said = self.registry.answer(method, path, query, role, body)
        if said is None:
            return 204, "application/json", ""
        return (
            (200, "text/plain; charset=utf-8", said.decode())
            if isinstance(said, bytes)
            else (200, "application/json", said.model_dump_json())
        )

    def _page(self, query: dict[str, str]) -> Page[Job]:
        wanted = {name: query[name] for name in ("status", "type", "queue", "pipeline_id", "schedule_id") if name in query}
        jobs = [job for job in self.jobs.values() if all(getattr(job, name) == value for name, value in wanted.items())]
        if "uses" in query:
            jobs = [job for job in jobs if any(query["uses"] in {given.version_id, given.dataset_id} for given in job.inputs)]
        if "labels" in query:
            jobs = [job for job in jobs if all(job.labels.get(need.key) == need.value for need in parse_selector(query["labels"]))]
        jobs.sort(key=lambda job: job.id, reverse=True)
        if "after" in query:
            jobs = [job for job in jobs if job.id < query["after"]]
        limit = int(query.get("limit", DEFAULT_LIMIT))
        shown = jobs[:limit]
        last_id = shown[-1].id if shown else None
        return Page(data=shown, has_more=len(jobs) > limit, first_id=shown[0].id if shown else None, last_id=last_id)

    def _about(self, job: Job, method: str, action: str, query: dict[str, str], role: Role) -> tuple[int, str, str]:
        if method == "POST" and role is Role.VIEWER:
            raise Forbidden("this needs the role operator")
        match action:
            case "":
                shown = job
            case "cancel":
                shown = self.change(job, cancel_requested=True)
            case "retry":
                shown = self.add(a_job(JobStatus.QUEUED, spec=job.spec, retry_of=job.id))
            case "log":
                lines = self.logs.get(job.id, [])
                lines = lines[-int(query["tail"]) :] if "tail" in query else lines
                return 200, "text/plain; charset=utf-8", "".join(f"{line}\n" for line in lines)
            case "curve":
                points = self.points.get(job.id, [])
                return 200, "application/json", JobCurve(job_id=job.id, num_points=len(points), data=points).model_dump_json()
            case "checkpoints":
                return 200, "application/json", Page[JobCheckpoint](data=self.checkpoints.get(job.id, [])).model_dump_json()
            case "artifacts":
                files = [_file(path, text) for path, text in self.artifacts.get(job.id, {}).items()]
                return 200, "application/json", Page[ManifestFile](data=files).model_dump_json()
            case _ if action.removeprefix("artifacts/") in self.artifacts.get(job.id, {}):
                return 200, "application/octet-stream", self.artifacts[job.id][action.removeprefix("artifacts/")]
            case _:
                raise UnknownJob(f"nothing answers {action!r}")
        return 200, "application/json", shown.model_dump_json()


def _file(path: str, text: str) -> ManifestFile:
    content = text.encode()
    return ManifestFile(path=path, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())


@contextmanager
def serving(api: JobApi) -> Iterator[str]:
    """Serves an API on loopback; yields its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer("GET")

        def do_POST(self) -> None:
            self._answer("POST")

        def do_PUT(self) -> None:
            self._answer("PUT")

        def do_PATCH(self) -> None:
            self._answer("PATCH")

        def do_DELETE(self) -> None:
            self._answer("DELETE")

        def log_message(self, format: str, *args: Any) -> None:
            """Says nothing: the tests' output is for the tests."""

        def _chunks(self) -> bytes:
            body = b""
            while size_bytes := int(self.rfile.readline(), 16):
                body += self.rfile.read(size_bytes)
                self.rfile.readline()
            self.rfile.readline()
            return body

        def _answer(self, method: str) -> None:
            body = self._chunks() if "Transfer-Encoding" in self.headers else self.rfile.read(int(self.headers.get("Content-Length", 0)))
            parts = urlsplit(self.path)
            asked = parse_qs(parts.query)
            query = {name: values[0] for name, values in asked.items()}
            key = self.headers.get("authorization", "").removeprefix("Bearer ")
            try:
                if parts.path.endswith("/events") and key in api.roles and api.refusal is None:
                    self._stream(parts.path.split("/")[-2], int(query.get("after", 0)), asked.get("kind", []))
                    return
                status, content_type, text = api.answer(
                    method, parts.path, query, key, idempotency_key=self.headers.get("Idempotency-Key", ""), body=body
                )
            except QuantryError as error:
                status, content_type, text = error.status, "application/problem+json", error.problem().model_dump_json()
            content = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _stream(self, job_id: str, after: int, kinds: list[str]) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            chunks = api.stream(job_id, after, kinds)
            try:
                for chunk in chunks:
                    self.wfile.write(chunk)
            except OSError:
                return
            finally:
                chunks.close()  # type: ignore[attr-defined]

    with serving_threads(Handler) as url:
        yield url
