"""Speaks to the control plane: the execution API and the registry's seal, over HTTP with the worker's token."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import httpx
from pydantic import BaseModel, ValidationError

from quantry_core.errors import PROBLEM_TYPE_PREFIX, Problem, QuantryError, Unavailable, all_error_types
from quantry_core.execution import CheckpointReport, EventsRequest, FinishRequest, HeartbeatReply, HeartbeatRequest, Lease, NextRequest
from quantry_core.jobs import Job
from quantry_core.vault import CheckpointSeal
from quantry_core.versions import SealRequest, SealResult
from quantry_core.workers import WorkerHello
from quantry_telemetry.traces import trace_headers
from quantry_worker.guard import REQUEST_TIMEOUT_S

SEAL_TIMEOUT_S = 3600.0
"""The registry reads every staged byte before it answers a seal: minutes for a large checkpoint."""
AWAY_STATUSES = frozenset({429, 502, 503, 504})


class Control(Protocol):
    """What an attempt needs of the control plane.

    Every method raises Unavailable when the control plane is away for the moment, StaleAttempt when the job is no longer
    this attempt's, and other QuantryErrors when it refuses.
    """

    def next(self, request: NextRequest) -> Lease | None:
        """Claims the next job of a queue; None if there is none."""
        ...

    def heartbeat(self, job_id: str, request: HeartbeatRequest, timeout_s: float) -> HeartbeatReply:
        """Renews the lease; gives up after about ``timeout_s`` seconds."""
        ...

    def events(self, job_id: str, request: EventsRequest, timeout_s: float) -> None:
        """Appends to the job's events; gives up after about ``timeout_s`` seconds."""
        ...

    def report_checkpoint(self, job_id: str, report: CheckpointReport, timeout_s: float) -> None:
        """Says where a training attempt got to, its files being sealed; gives up after about ``timeout_s`` seconds."""
        ...

    def finish(self, job_id: str, request: FinishRequest, timeout_s: float) -> Job:
        """Ends the attempt; gives up after about ``timeout_s`` seconds."""
        ...

    def seal(self, request: SealRequest) -> SealResult:
        """Has staged files moved into the vault; may take minutes."""
        ...

    def seal_artifacts(self, request: SealRequest) -> SealResult:
        """Has files that an attempt leaves beside its version moved into the vault; may take minutes."""
        ...

    def seal_checkpoint(self, request: CheckpointSeal) -> SealResult:
        """Has a training attempt's checkpoint moved into the vault; may take minutes."""
        ...


class HttpControl:
    """The real one. Thread-safe; make it after a fork, not before."""

    def __init__(self, base_url: str, token: str, transport: httpx.BaseTransport | None = None, *, token_file: Path | None = None) -> None:
        """``token_file`` is read again when the token is refused: this host may have rotated its key."""
        self._token_file = token_file
        self._client = httpx.Client(
            base_url=base_url.rstrip("/"),
            headers={"Authorization": f"Bearer {token}"},
            timeout=REQUEST_TIMEOUT_S,
            # The control plane is reached directly; a proxy for the way out to the internet would not find it.
            trust_env=False,
            transport=transport,
        )

    def hello(self, worker_id: str, hello: WorkerHello, timeout_s: float) -> None:
        """Says who the worker is: shows too that the control plane answers and takes the token."""
        self._send("PUT", f"/api/v1/execution/workers/{worker_id}", content=hello.model_dump_json(), timeout_s=timeout_s)

    def next(self, request: NextRequest) -> Lease | None:
        response = self._post("/api/v1/execution/next", request)
        return None if response.status_code == httpx.codes.NO_CONTENT else Lease.model_validate(self._json(response))

    def heartbeat(self, job_id: str, request: HeartbeatRequest, timeout_s: float) -> HeartbeatReply:
        response = self._post(f"/api/v1/execution/jobs/{job_id}/heartbeat", request, timeout_s)
        return HeartbeatReply.model_validate(self._json(response))

    def events(self, job_id: str, request: EventsRequest, timeout_s: float) -> None:
        self._post(f"/api/v1/execution/jobs/{job_id}/events", request, timeout_s)

    def report_checkpoint(self, job_id: str, report: CheckpointReport, timeout_s: float) -> None:
        self._post(f"/api/v1/execution/jobs/{job_id}/checkpoints", report, timeout_s)

    def finish(self, job_id: str, request: FinishRequest, timeout_s: float) -> Job:
        return Job.model_validate(self._json(self._post(f"/api/v1/execution/jobs/{job_id}/finish", request, timeout_s)))

    def seal(self, request: SealRequest) -> SealResult:
        return SealResult.model_validate(self._json(self._post("/api/v1/seals", request, SEAL_TIMEOUT_S)))

    def seal_artifacts(self, request: SealRequest) -> SealResult:
        return SealResult.model_validate(self._json(self._post("/api/v1/seals/artifacts", request, SEAL_TIMEOUT_S)))

    def seal_checkpoint(self, request: CheckpointSeal) -> SealResult:
        return SealResult.model_validate(self._json(self._post("/api/v1/seals/checkpoints", request, SEAL_TIMEOUT_S)))

    def close(self) -> None:
        self._client.close()

    def _post(self, path: str, body: BaseModel, timeout_s: float = REQUEST_TIMEOUT_S) -> httpx.Response:
        return self._send("POST", path, content=body.model_dump_json(), timeout_s=timeout_s)

    def _send(self, method: str, path: str, *, content: str | None = None, timeout_s: float = REQUEST_TIMEOUT_S) -> httpx.Response:
        response = self._request(method, path, content, timeout_s)
        if response.status_code == httpx.codes.UNAUTHORIZED and self._has_new_token():
            response = self._request(method, path, content, timeout_s)
        if response.is_success:
            return response
        raise error_of(response)

    def _request(self, method: str, path: str, content: str | None, timeout_s: float) -> httpx.Response:
        headers = trace_headers() if content is None else {"Content-Type": "application/json", **trace_headers()}
        try:
            return self._client.request(method, path, content=content, headers=headers, timeout=timeout_s)
        except httpx.TransportError as error:
            raise Unavailable(f"the control plane does not answer: {type(error).__name__}: {error}") from error

    def _has_new_token(self) -> bool:
        """Takes the token from its file; tells whether it is another than the one that was sent."""
        if self._token_file is None:
            return False
        try:
            token = self._token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError):
            # What was refused says more than that the file cannot be read.
            return False
        sent = self._client.headers["Authorization"]
        self._client.headers["Authorization"] = f"Bearer {token}"
        return bool(token) and sent != f"Bearer {token}"

    @staticmethod
    def _json(response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError as error:
            raise QuantryError(f"{response.request.url.path} answered something that is not JSON") from error


def error_of(response: httpx.Response) -> QuantryError:
    """Returns the typed error of an unsuccessful answer; a plain QuantryError if its type is not known here."""
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        problem = None
    if response.status_code in AWAY_STATUSES:
        return Unavailable(problem.detail if problem else f"the control plane answers {response.status_code}")
    if problem is None:
        return QuantryError(f"{response.request.url.path} answered {response.status_code}: {response.text[:200]}")
    slug = problem.type.removeprefix(PROBLEM_TYPE_PREFIX)
    error_type = next((known for known in all_error_types() if known.slug == slug), QuantryError)
    return error_type(problem.detail, errors=problem.errors)
