"""Events that survive broken connections, and waiting."""

from __future__ import annotations

import httpx
import pytest

from factories.client import (
    JOB_ID,
    Breaking,
    FakeServer,
    Pieces,
    answer,
    event,
    event_bytes,
    event_stream,
    failing,
    job,
    problem,
    succeeded,
)
from quantry import ApiError, ServerUnreachable, UnexpectedAnswer, WaitTimedOut
from quantry.config import Connection
from quantry.resources.jobs import Jobs
from quantry.transport import Transport
from quantry_core.jobs import EventKind, JobStatus

JOB = f"/api/v1/jobs/{JOB_ID}"
RUNNING = event(1, EventKind.STATE, status="running")
HALF = event(2, EventKind.PROGRESS, phase="quantize", fraction=0.5, detail="")
DONE = event(3, EventKind.STATE, status="succeeded", reason="completed")


def test_events_end_with_the_final_state() -> None:
    server = FakeServer()
    server.on("GET", f"{JOB}/events", event_stream(RUNNING, HALF, DONE))
    assert list(server.client().jobs.events(JOB_ID)) == [RUNNING, HALF, DONE]
    assert len(server.requests) == 1


def test_a_broken_stream_is_taken_up_where_it_broke() -> None:
    server = FakeServer()
    broken = httpx.Response(200, stream=Breaking(event_bytes(RUNNING, HALF), b"id: 3\ndata: {"))
    server.on("GET", f"{JOB}/events", lambda _request: broken, failing(httpx.ConnectError), event_stream(DONE))
    assert list(server.client().jobs.events(JOB_ID)) == [RUNNING, HALF, DONE]
    assert [request.headers["last-event-id"] for request in server.requests] == ["0", "2", "2"]
    assert server.requests[-1].url.params["after"] == "2"


def test_a_stream_that_ends_too_early_is_opened_again() -> None:
    server = FakeServer()
    server.on("GET", f"{JOB}/events", event_stream(RUNNING), event_stream(HALF, DONE))
    server.on("GET", JOB, answer(job(JobStatus.RUNNING)))
    assert list(server.client().jobs.events(JOB_ID)) == [RUNNING, HALF, DONE]


def test_events_after_the_last_one_end_at_once() -> None:
    server = FakeServer()
    server.on("GET", f"{JOB}/events", event_stream())
    server.on("GET", JOB, answer(succeeded()))
    assert list(server.client().jobs.events(JOB_ID, after=3)) == []
    assert server.slept_s == []


def test_a_stream_that_ends_too_early_while_the_job_ends_loses_nothing() -> None:
    server = FakeServer()
    server.on("GET", f"{JOB}/events", event_stream(RUNNING), event_stream(HALF, DONE))
    server.on("GET", JOB, answer(succeeded()))
    assert list(server.client().jobs.events(JOB_ID)) == [RUNNING, HALF, DONE]


def test_only_some_kinds_of_events() -> None:
    server = FakeServer()
    server.on("GET", f"{JOB}/events", event_stream(HALF))
    server.on("GET", JOB, answer(succeeded()))
    assert list(server.client().jobs.events(JOB_ID, kinds=[EventKind.LOG, EventKind.PROGRESS])) == [HALF, HALF]
    assert server.requests[0].url.params.get_list("kind") == ["log", "progress"]
    assert server.requests[-1].url.params["after"] == "2"


def test_an_event_that_lies_in_the_future_is_refused_at_once() -> None:
    server = FakeServer()
    server.on("GET", f"{JOB}/events", problem(422, "invalid-input", "there is no event 99, the last is 3"))
    with pytest.raises(ApiError, match="the last is 3"):
        list(server.client().jobs.events(JOB_ID, after=99))
    assert len(server.requests) == 1


def test_a_gateway_without_its_api_is_waited_for() -> None:
    server = FakeServer()
    away = [problem(503, "unavailable", "away", retry_after="1")] * 6
    server.on("GET", f"{JOB}/events", *away, event_stream(DONE))
    assert list(server.client().jobs.events(JOB_ID)) == [DONE]


def test_a_server_that_is_started_again_is_waited_for() -> None:
    server = FakeServer()
    away = [failing(httpx.ConnectError)] * 12
    server.on("GET", f"{JOB}/events", event_stream(RUNNING), *away, event_stream(HALF, DONE))
    server.on("GET", JOB, *away, answer(job(JobStatus.RUNNING)))
    assert list(server.client().jobs.events(JOB_ID)) == [RUNNING, HALF, DONE]


def test_a_server_that_was_never_there_is_not_waited_for() -> None:
    server = FakeServer()
    server.on("GET", f"{JOB}/events", failing(httpx.ConnectError))
    with pytest.raises(ServerUnreachable):
        list(server.client().jobs.events(JOB_ID))
    assert sum(server.slept_s) < 5


def test_a_server_that_stays_away_ends_the_wait() -> None:
    server = FakeServer()
    server.on("GET", f"{JOB}/events", lambda _request: httpx.Response(200, stream=Breaking()))
    with pytest.raises(ServerUnreachable, match="connection was lost"):
        list(server.client().jobs.events(JOB_ID))
    assert 5 < sum(server.slept_s) < 120


def test_a_refusal_is_raised_at_once() -> None:
    server = FakeServer()
    server.on("GET", f"{JOB}/events", problem(404, "unknown-job", "there is no such job"))
    with pytest.raises(ApiError, match="no such job"):
        list(server.client().jobs.events(JOB_ID))
    assert len(server.requests) == 1


def test_an_event_of_another_kind_is_named() -> None:
    server = FakeServer()
    server.on("GET", f"{JOB}/events", lambda _request: httpx.Response(200, stream=Pieces(b"data: {}\n\n")))
    with pytest.raises(UnexpectedAnswer):
        list(server.client().jobs.events(JOB_ID))


def timed_jobs(server: FakeServer) -> Jobs:
    """Returns jobs whose clock moves only by sleeping."""
    transport = Transport(
        Connection(url="http://quantry.test", api_key="k"),
        timeout_s=1,
        transport=httpx.MockTransport(server.handle),
        sleep=server.slept_s.append,
    )
    return Jobs(transport, clock_s=lambda: sum(server.slept_s))


def test_wait_returns_the_ended_job() -> None:
    server = FakeServer()
    server.on("GET", JOB, answer(job()), answer(job(JobStatus.RUNNING)), answer(succeeded()))
    assert timed_jobs(server).wait(JOB_ID, timeout_s=60) == succeeded()
    assert server.slept_s == [1.0, 1.0]


def test_wait_gives_up_in_time() -> None:
    server = FakeServer()
    server.on("GET", JOB, answer(job(JobStatus.RUNNING)))
    with pytest.raises(WaitTimedOut, match=r"still running after 2\.5 s") as late:
        timed_jobs(server).wait(JOB_ID, timeout_s=2.5)
    assert late.value.last_seen == job(JobStatus.RUNNING)
    assert sum(server.slept_s) == 2.5


def test_the_log_is_text() -> None:
    server = FakeServer()
    server.on("GET", f"{JOB}/log", lambda _request: httpx.Response(200, text="--- attempt 1 ---\nä\n"))
    assert server.client().jobs.log(JOB_ID, attempt=1, tail=7) == "--- attempt 1 ---\nä\n"
    assert dict(server.requests[0].url.params) == {"attempt": "1", "tail": "7"}
