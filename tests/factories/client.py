"""A server made of functions, for tests of the SDK and the command line that use no sockets."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from quantry import AsyncClient, Client, Retries
from quantry.client import DEFAULT_TIMEOUT_S
from quantry_core.datasets import Dataset, DatasetKind, DatasetOrigin, DatasetStatistics
from quantry_core.jobs import EventKind, ImportSpec, Job, JobEvent, JobReason, JobResult, JobStatus, JobType
from quantry_core.methods import Format
from quantry_core.pipelines import PipelineDetail, pipeline_status
from quantry_core.versions import Lineage, LineageLink, LineageNode, ManifestFile, VersionDetail, VersionKind, VersionState

URL = "http://quantry.test:8000"
KEY = "qtr_a-key"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
JOB_ID = "job_0197f0a0000070008000000000000001"
OTHER_JOB_ID = "job_0197f0a0000070008000000000000002"
PIPELINE_ID = "pip_0197f0a0000070008000000000000001"
MASTER_ID = "ver_0197f0a0000070008000000000000001"
QUANTIZED_ID = "ver_0197f0a0000070008000000000000002"
DATASET_ID = "dat_0197f0a0000070008000000000000001"
DATASET_BYTES = b'{"text": "one"}\n' * 3

Answer = Callable[[httpx.Request], httpx.Response]


class FakeServer:
    """Answers by (method, path); remembers every request and every pause that was slept."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], list[Answer]] = {}
        self.requests: list[httpx.Request] = []
        self.slept_s: list[float] = []

    def on(self, method: str, path: str, *answers: Answer) -> None:
        """Sets what a request gets: one answer after the other, the last one for ever."""
        self.answers[method, path] = list(answers)

    def handle(self, request: httpx.Request) -> httpx.Response:
        """Answers a request."""
        self.requests.append(request)
        queue = self.answers.get((request.method, request.url.path))
        if queue is None:
            return problem(404, "not-found", f"nothing at {request.method} {request.url.path}")(request)
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        return answer(request)

    def client(
        self,
        url: str | None = URL,
        api_key: str | None = KEY,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        *,
        profile: str | None = None,
        retries: Retries | None = None,
    ) -> Client:
        """Returns a client of this server that never really sleeps."""
        return Client(
            url or (None if profile else URL),
            api_key or (None if profile else KEY),
            timeout_s,
            profile=profile,
            retries=retries or Retries(),
            transport=httpx.MockTransport(self.handle),
            sleep=self.slept_s.append,
        )

    def async_client(self) -> AsyncClient:
        """Returns an asynchronous client of this server that never really sleeps."""

        async def sleep(seconds: float) -> None:
            self.slept_s.append(seconds)
            await asyncio.sleep(0)

        return AsyncClient(URL, KEY, transport=httpx.MockTransport(self.handle), sleep=sleep)


def answer(document: Any, status: int = 200) -> Answer:
    """Returns an answer with a JSON body; a model, or anything JSON holds."""
    content = document.model_dump_json() if hasattr(document, "model_dump_json") else json.dumps(document)
    return lambda _request: httpx.Response(status, content=content, headers={"content-type": "application/json"})


def problem(status: int, slug: str, detail: str, *, retry_after: str | None = None, errors: list[dict[str, str]] | None = None) -> Answer:
    """Returns a refusal."""
    document = {"type": f"urn:quantry:problem:{slug}", "title": slug, "status": status, "detail": detail, "errors": errors or []}
    headers = {"content-type": "application/problem+json"} | ({} if retry_after is None else {"retry-after": retry_after})
    return lambda _request: httpx.Response(status, content=json.dumps(document), headers=headers)


def failing(error: type[httpx.TransportError]) -> Answer:
    """Returns a connection that fails."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise error("it failed", request=request)

    return fail


class Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that arrives in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


class Breaking(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that breaks off after its pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        raise httpx.ReadError("the connection was lost")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        raise httpx.ReadError("the connection was lost")


def page(*items: Any, has_more: bool = False) -> Answer:
    """Returns a page of these models."""
    data = [item.model_dump(mode="json") for item in items]
    ids = [item["id"] for item in data] or [None]
    return answer({"data": data, "has_more": has_more, "first_id": ids[0], "last_id": ids[-1]})


def job(status: JobStatus = JobStatus.QUEUED, **changes: Any) -> Job:
    """Returns an import job."""
    values: dict[str, Any] = {
        "id": JOB_ID,
        "project_id": "prj_1",
        "type": JobType.IMPORT,
        "status": status,
        "spec": ImportSpec(model="bard", source="/models/bard"),
        "priority": 5,
        "attempt": 1,
        "num_lost_attempts": 0,
        "created_at": NOW,
    }
    return Job.model_validate(values | changes)


def succeeded() -> Job:
    """Returns a job that made a version."""
    return job(JobStatus.SUCCEEDED, reason=JobReason.COMPLETED, result=JobResult(version_id=MASTER_ID, seconds=1.25))


def step(name: str, status: JobStatus, needs: Sequence[str] = (), **changes: Any) -> Job:
    """Returns a pipeline's job; ``needs`` are steps."""
    values: dict[str, Any] = {"id": step_id(name), "step": name, "pipeline_id": PIPELINE_ID, "needs": [step_id(need) for need in needs]}
    return job(status, **(values | changes))


def step_id(name: str) -> str:
    """Returns the id of a step's job."""
    return f"job_{hashlib.sha256(name.encode()).hexdigest()[:32]}"


def pipeline(*jobs: Job, **changes: Any) -> PipelineDetail:
    """Returns a pipeline of these jobs."""
    values: dict[str, Any] = {
        "id": PIPELINE_ID,
        "project_id": "prj_1",
        "name": "compare",
        "status": pipeline_status(one.status for one in jobs),
        "num_jobs": Counter(one.status for one in jobs),
        "created_at": NOW,
        "jobs": list(jobs),
    }
    return PipelineDetail.model_validate(values | changes)


def event(seq: int, kind: EventKind, *, of: str = JOB_ID, in_attempt: int = 1, at_s: float = 0.0, **data: Any) -> JobEvent:
    """Returns one event of a job, ``at_s`` seconds after NOW."""
    return JobEvent(seq=seq, job_id=of, attempt=in_attempt, kind=kind, data=data, created_at=NOW + timedelta(seconds=at_s))


def event_bytes(*events: JobEvent) -> bytes:
    """Returns events as the api streams them."""
    return b"".join(f"id: {item.seq}\nevent: {item.kind}\ndata: {item.model_dump_json()}\n\n".encode() for item in events)


def event_stream(*events: JobEvent) -> Answer:
    """Returns an event stream that ends."""
    return lambda _request: httpx.Response(200, stream=Pieces(event_bytes(*events)), headers={"content-type": "text/event-stream"})


def version(files: dict[str, bytes]) -> VersionDetail:
    """Returns a master with these files."""
    manifest = [ManifestFile(path=path, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest()) for path, data in files.items()]
    return VersionDetail(
        id=MASTER_ID,
        project_id="prj_1",
        model_id="mod_1",
        model_name="bard",
        number=1,
        kind=VersionKind.MASTER,
        state=VersionState.READY,
        format=Format.SAFETENSORS,
        scheme=None,
        dtype="float16",
        manifest_digest="0" * 64,
        size_bytes=sum(map(len, files.values())),
        weights_bytes=0,
        job_id=JOB_ID,
        attempt=1,
        recipe={},
        toolchain={},
        created_at=NOW,
        files=manifest,
        edges=[],
        evidence=[],
    )


def dataset(**changes: Any) -> Dataset:
    """Returns an uploaded dataset of three rows, DATASET_BYTES."""
    values: dict[str, Any] = {
        "id": DATASET_ID,
        "project_id": "prj_1",
        "name": "plays",
        "number": 1,
        "kind": DatasetKind.ROWS,
        "origin": DatasetOrigin.UPLOADED,
        "sha256": hashlib.sha256(DATASET_BYTES).hexdigest(),
        "size_bytes": len(DATASET_BYTES),
        "statistics": DatasetStatistics(
            num_characters=12345,
            num_lines=3,
            non_ascii_share=0.0125,
            num_rows=3,
            row_characters_min=1,
            row_characters_mean=4115.0,
            row_characters_max=9999,
            row_characters_p50=4000,
            row_characters_p95=9990,
            num_duplicate_rows=2,
        ),
        "created_at": NOW,
    }
    return Dataset.model_validate(values | changes)


def lineage() -> Lineage:
    """Returns a master, what was quantized from it, and the text that helped."""
    return Lineage.model_validate(
        {
            "version_id": QUANTIZED_ID,
            "nodes": [
                LineageNode(id="dat_1", noun="dataset", label="plays@1", kind="text", state="ready"),
                LineageNode(id=QUANTIZED_ID, noun="version", label="bard@2", kind="quantized", state="ready"),
                LineageNode(id=MASTER_ID, noun="version", label="bard@1", kind="master", state="ready"),
            ],
            "links": [
                LineageLink.model_validate({"child_id": QUANTIZED_ID, "parent_id": MASTER_ID, "role": "base"}),
                LineageLink.model_validate({"child_id": QUANTIZED_ID, "parent_id": "dat_1", "role": "calibration"}),
            ],
        }
    )
