from __future__ import annotations

import json
from collections.abc import Callable

import httpx
import pytest

from factories.control_plane import lease_of, running_job
from quantry_core.errors import (
    PROBLEM_CONTENT_TYPE,
    NotFound,
    QuantryError,
    SealRefused,
    StaleAttempt,
    Unauthorized,
    Unavailable,
    all_error_types,
)
from quantry_core.execution import CheckpointReport, FinishRequest, HeartbeatRequest, NextRequest, Outcome
from quantry_core.jobs import CPU_QUEUE, JobReason
from quantry_core.vault import CheckpointSeal
from quantry_core.versions import ManifestFile, SealRequest
from quantry_core.workers import WorkerHello
from quantry_worker.control import AWAY_STATUSES, HttpControl

NEXT = NextRequest(queue=CPU_QUEUE, worker_id="wrk_" + "0" * 32)

HELLO = WorkerHello(host="a", pid=1, version="1", queues=["cpu"], num_slots=1, environments={})


def control(handler: Callable[[httpx.Request], httpx.Response]) -> HttpControl:
    return HttpControl("http://control.test/", "the-token", transport=httpx.MockTransport(handler))


def problem(error: QuantryError) -> httpx.Response:
    return httpx.Response(error.status, content=error.problem("/x").model_dump_json(), headers={"Content-Type": PROBLEM_CONTENT_TYPE})


def test_a_claim_carries_the_token_and_returns_the_lease() -> None:
    lease = lease_of(running_job())

    def handler(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "http://control.test/api/v1/execution/next"
        assert request.headers["Authorization"] == "Bearer the-token"
        assert NextRequest.model_validate_json(request.content) == NEXT
        return httpx.Response(200, content=lease.model_dump_json())

    assert control(handler).next(NEXT) == lease


def test_no_content_is_no_work() -> None:
    assert control(lambda _: httpx.Response(204)).next(NEXT) is None


def test_each_request_goes_to_its_place() -> None:
    paths: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        paths.append(f"{request.method} {request.url.path}")
        answers = {"heartbeat": '{"lease_s": 60, "cancel_requested": true}', "finish": running_job().model_dump_json()}
        digest = json.dumps({"manifest_digest": "0" * 64, "num_sealed": 1, "num_reused": 0})
        return httpx.Response(200, content=answers.get(request.url.path.rpartition("/")[2], digest))

    client = control(handler)
    client.hello(NEXT.worker_id, HELLO, 5)
    assert client.heartbeat("job_1", HeartbeatRequest(attempt=1), 5).cancel_requested
    client.finish("job_1", FinishRequest(attempt=1, outcome=Outcome.RELEASED, reason=JobReason.WORKER_LOST), 5)
    assert (
        client.seal(SealRequest(job_id="job_1", attempt=1, files=[ManifestFile(path="a", size_bytes=1, sha256="0" * 64)])).num_sealed == 1
    )
    file = ManifestFile(path="a", size_bytes=1, sha256="0" * 64)
    assert client.seal_checkpoint(CheckpointSeal(job_id="job_1", attempt=1, step=20, files=[file])).num_sealed == 1
    client.report_checkpoint("job_1", CheckpointReport(attempt=1, step=20, files=[file]), 5)
    assert paths == [
        f"PUT /api/v1/execution/workers/{NEXT.worker_id}",
        "POST /api/v1/execution/jobs/job_1/heartbeat",
        "POST /api/v1/execution/jobs/job_1/finish",
        "POST /api/v1/seals",
        "POST /api/v1/seals/checkpoints",
        "POST /api/v1/execution/jobs/job_1/checkpoints",
    ]


@pytest.mark.parametrize("error", [StaleAttempt("s"), SealRefused("r"), Unauthorized("u"), Unavailable("v")], ids=lambda error: error.slug)
def test_a_problem_becomes_its_error(error: QuantryError) -> None:
    with pytest.raises(type(error)) as raised:
        control(lambda _: problem(error)).next(NEXT)
    assert type(raised.value) is type(error)
    assert raised.value.detail == error.detail


@pytest.mark.parametrize("error_type", [kind for kind in all_error_types() if kind.__module__ == "quantry_core.errors"])
def test_every_error_of_core_is_known_by_its_slug(error_type: type[QuantryError]) -> None:
    # What will pass is one thing to a worker: it waits.
    expected = Unavailable if error_type.status in AWAY_STATUSES else error_type
    with pytest.raises(expected):
        control(lambda _: problem(error_type("x"))).next(NEXT)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_gateway_that_cannot_reach_the_service_means_away(status: int) -> None:
    with pytest.raises(Unavailable):
        control(lambda _: httpx.Response(status, text="<html>bad gateway</html>")).next(NEXT)


@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.RemoteProtocolError("cut")])
def test_no_answer_means_away(failure: httpx.TransportError) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise failure

    with pytest.raises(Unavailable):
        control(handler).next(NEXT)


def test_an_answer_that_is_no_problem_document_is_told() -> None:
    with pytest.raises(QuantryError, match="500: oops") as raised:
        control(lambda _: httpx.Response(500, text="oops")).next(NEXT)
    assert type(raised.value) is QuantryError


def test_an_answer_that_is_not_json_is_told() -> None:
    with pytest.raises(QuantryError, match="not JSON"):
        control(lambda _: httpx.Response(200, text="hello")).next(NEXT)


def test_an_unknown_slug_keeps_its_detail() -> None:
    document = NotFound("gone").problem().model_copy(update={"type": "urn:quantry:problem:of-next-year"})
    with pytest.raises(QuantryError, match="gone"):
        control(lambda _: httpx.Response(418, content=document.model_dump_json())).next(NEXT)
