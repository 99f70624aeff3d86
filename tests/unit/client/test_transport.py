"""Retries, and refusals as exceptions."""

from __future__ import annotations

from datetime import UTC, datetime

import httpx
import pytest

from factories.client import JOB_ID, KEY, Answer, Breaking, FakeServer, answer, failing, job, page, problem
from quantry import ApiError, InvalidReference, ServerUnreachable, UnexpectedAnswer
from quantry.messages import is_loopback
from quantry.retries import Retries, retry_after_s
from quantry_core.jobs import ImportSpec, JobStatus, JobType
from quantry_core.keys import Role

JOB = f"/api/v1/jobs/{JOB_ID}"
SPEC = ImportSpec(model="bard", source="/models/bard")


def test_every_request_carries_the_key() -> None:
    server = FakeServer()
    server.on("GET", JOB, answer(job()))
    assert server.client().jobs.get(JOB_ID) == job()
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_list_sends_only_the_filters_that_are_set() -> None:
    server = FakeServer()
    server.on("GET", "/api/v1/jobs", page(job(), has_more=True))
    listed = server.client().jobs.list(status=JobStatus.QUEUED, type=JobType.IMPORT, limit=5)
    assert listed.data == [job()]
    assert listed.has_more
    assert dict(server.requests[0].url.params) == {"limit": "5", "status": "queued", "type": "import"}


def test_a_refusal_carries_its_problem() -> None:
    server = FakeServer()
    errors = [{"field": "spec.method", "message": "unknown"}]
    server.on("POST", "/api/v1/jobs", problem(422, "unknown-method", "there is no method 'x'", errors=errors))
    with pytest.raises(ApiError, match="there is no method 'x'") as refused:
        server.client().jobs.submit(SPEC)
    assert refused.value.status == 422
    assert refused.value.slug == "unknown-method"
    assert refused.value.type == "urn:quantry:problem:unknown-method"
    assert refused.value.errors[0].field == "spec.method"
    assert len(server.requests) == 1


def test_an_answer_that_is_no_problem_document_becomes_one() -> None:
    server = FakeServer()
    server.on("GET", JOB, lambda _request: httpx.Response(418, text="short and stout"))
    with pytest.raises(ApiError, match=r"418.*short and stout") as refused:
        server.client().jobs.get(JOB_ID)
    assert refused.value.type == "about:blank"


def test_a_redirect_is_not_followed() -> None:
    server = FakeServer()
    server.on("GET", JOB, lambda _request: httpx.Response(302, headers={"location": "http://elsewhere/"}))
    with pytest.raises(ApiError):
        server.client().jobs.get(JOB_ID)
    assert len(server.requests) == 1


@pytest.mark.parametrize(("status", "slug"), [(503, "unavailable"), (429, "too-many-requests")])
def test_a_refusal_that_passes_is_waited_for_as_long_as_it_says(status: int, slug: str) -> None:
    server = FakeServer()
    server.on("GET", JOB, problem(status, slug, "later", retry_after="3"), problem(status, slug, "later"), answer(job()))
    assert server.client().jobs.get(JOB_ID) == job()
    assert 3.0 <= server.slept_s[0] <= 3.3
    assert 0 < server.slept_s[1] < 3.0


@pytest.mark.parametrize("retry_after", ["86400", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_server_that_wants_to_be_left_alone_for_hours_is(retry_after: str) -> None:
    server = FakeServer()
    server.on("GET", JOB, problem(429, "too-many-requests", "enough for today", retry_after=retry_after), answer(job()))
    with pytest.raises(ApiError, match="enough for today") as refused:
        server.client().jobs.get(JOB_ID)
    assert refused.value.retry_after_s is not None and refused.value.retry_after_s >= 86400
    assert (len(server.requests), server.slept_s) == (1, [])


def test_clients_that_were_told_the_same_do_not_come_back_together() -> None:
    pauses = set()
    for _ in range(20):
        server = FakeServer()
        server.on("GET", JOB, problem(429, "too-many-requests", "later", retry_after="10"), answer(job()))
        server.client().jobs.get(JOB_ID)
        pauses |= set(server.slept_s)
    assert len(pauses) > 10
    assert min(pauses) >= 10.0


@pytest.mark.parametrize("max_attempts", [1, 2])
def test_how_often_is_asked_can_be_said(max_attempts: int) -> None:
    server = FakeServer()
    server.on("GET", JOB, problem(503, "unavailable", "away", retry_after="0"))
    with pytest.raises(ApiError):
        server.client(retries=Retries(max_attempts=max_attempts)).jobs.get(JOB_ID)
    assert len(server.requests) == max_attempts


@pytest.mark.parametrize("settings", [{"max_attempts": 0}, {"first_pause_s": -1.0}, {"longest_told_pause_s": -0.1}])
def test_retries_that_cannot_be(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"or more"):
        Retries(**settings)  # type: ignore[arg-type]  # one of them is an int


@pytest.mark.parametrize(
    ("value", "expected_s"),
    [
        ("5", 5.0),
        (" 7 ", 7.0),
        ("Mon, 23 Nov 2026 12:01:30 GMT", 90.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("-3", None),
        ("1.5", None),
    ],
)
def test_what_retry_after_says(value: str, expected_s: float | None) -> None:
    response = httpx.Response(503, headers={"retry-after": value})
    assert retry_after_s(response, datetime(2026, 11, 23, 12, 0, tzinfo=UTC)) == expected_s


def test_a_503_that_stays_is_raised() -> None:
    server = FakeServer()
    server.on("GET", JOB, problem(503, "unavailable", "away", retry_after="0"))
    with pytest.raises(ApiError) as refused:
        server.client().jobs.get(JOB_ID)
    assert refused.value.status == 503
    assert len(server.requests) == Retries().max_attempts


KEYS = "/api/v1/keys"


@pytest.mark.parametrize(
    "fault",
    [failing(httpx.ReadError), problem(503, "unavailable", "away"), problem(429, "too-many-requests", "slowly", retry_after="1")],
)
def test_what_may_be_done_twice_is_never_sent_again_once_it_may_have_arrived(fault: Answer) -> None:
    server = FakeServer()
    server.on("POST", KEYS, fault)
    with pytest.raises((ServerUnreachable, ApiError)):
        server.client().keys.create("ci", Role.VIEWER)
    assert len(server.requests) == 1


IN_FLIGHT = problem(409, "idempotency-key-in-flight", "it is being worked on", retry_after="1")


@pytest.mark.parametrize(
    "fault",
    [
        failing(httpx.ConnectError),
        failing(httpx.ReadError),
        failing(httpx.RemoteProtocolError),
        problem(503, "unavailable", "away"),
        IN_FLIGHT,
    ],
)
def test_a_submission_is_sent_again_under_the_same_key(fault: Answer) -> None:
    server = FakeServer()
    server.on("POST", "/api/v1/jobs", fault, fault, answer(job(), 201))
    assert server.client().jobs.submit(SPEC) == job()
    keys = [request.headers["idempotency-key"] for request in server.requests]
    assert len(keys) == 3
    assert len(set(keys)) == 1
    assert len({request.content for request in server.requests}) == 1


def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    server = FakeServer()
    broken = httpx.Response(201, stream=Breaking(b'{"id": "job_'))
    server.on("POST", "/api/v1/jobs", lambda _request: broken, answer(job(), 201))
    assert server.client().jobs.submit(SPEC) == job()


def test_each_submission_has_a_key_of_its_own_unless_it_is_given_one() -> None:
    server = FakeServer()
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    for key in (None, None, "monday"):
        server.client().jobs.submit(SPEC, idempotency_key=key)
    first, second, third = (request.headers["idempotency-key"] for request in server.requests)
    assert len(first) >= 32
    assert first != second
    assert third == "monday"


def test_a_key_that_is_in_flight_for_ever_is_told() -> None:
    server = FakeServer()
    server.on("POST", "/api/v1/jobs", IN_FLIGHT)
    with pytest.raises(ApiError, match="being worked on"):
        server.client().jobs.submit(SPEC)
    assert len(server.slept_s) == Retries().max_attempts - 1
    assert all(1.0 <= pause_s <= 1.1 for pause_s in server.slept_s)


@pytest.mark.parametrize(("fault", "is_told"), [(httpx.ReadError, True), (httpx.ReadTimeout, True), (httpx.ConnectError, False)])
def test_a_submission_that_may_have_arrived_leaves_its_key(fault: type[httpx.TransportError], is_told: bool) -> None:
    server = FakeServer()
    server.on("POST", "/api/v1/jobs", failing(fault))
    with pytest.raises(ServerUnreachable) as lost:
        server.client().jobs.submit(SPEC)
    assert lost.value.idempotency_key == (server.requests[0].headers["idempotency-key"] if is_told else None)


@pytest.mark.parametrize("refusal", [problem(503, "unavailable", "away"), IN_FLIGHT])
def test_a_lost_answer_before_refusals_leaves_its_key_too(refusal: Answer) -> None:
    server = FakeServer()
    server.on("POST", "/api/v1/jobs", failing(httpx.ReadError), refusal)
    with pytest.raises(ServerUnreachable) as lost:
        server.client().jobs.submit(SPEC)
    assert len(server.requests) == Retries().max_attempts
    assert lost.value.idempotency_key == server.requests[0].headers["idempotency-key"]


def test_a_conflict_of_another_kind_is_told_at_once() -> None:
    server = FakeServer()
    server.on("POST", f"{JOB}/retry", problem(409, "conflict", "it has not ended"))
    with pytest.raises(ApiError, match="not ended"):
        server.client().jobs.retry(JOB_ID)
    assert len(server.requests) == 1


def test_a_cancel_may_be_repeated() -> None:
    server = FakeServer()
    server.on("POST", f"{JOB}/cancel", failing(httpx.ReadError), problem(503, "unavailable", "away"), answer(job(JobStatus.CANCELLED)))
    assert server.client().jobs.cancel(JOB_ID).status is JobStatus.CANCELLED


def test_a_server_that_is_not_there() -> None:
    server = FakeServer()
    server.on("GET", JOB, failing(httpx.ConnectError))
    with pytest.raises(ServerUnreachable, match=r"http://quantry.test:8000: it failed"):
        server.client().jobs.get(JOB_ID)
    assert len(server.requests) == Retries().max_attempts


def test_a_server_that_is_too_slow_is_not_asked_again() -> None:
    server = FakeServer()
    server.on("GET", JOB, failing(httpx.ReadTimeout))
    with pytest.raises(ServerUnreachable, match="in time"):
        server.client().jobs.get(JOB_ID)
    assert len(server.requests) == 1


def test_an_answer_of_another_kind_is_named() -> None:
    server = FakeServer()
    server.on("GET", JOB, answer({"hello": "world"}))
    with pytest.raises(UnexpectedAnswer, match=f"GET {JOB}"):
        server.client().jobs.get(JOB_ID)


@pytest.mark.parametrize("text", ["", "..", "a/b", "a..b", "a%2fb", "a b", "a?b", "a#b", ".hidden", "a\0b", "x" * 200])
def test_what_cannot_be_a_name_is_not_sent(text: str) -> None:
    server = FakeServer()
    with pytest.raises(InvalidReference):
        server.client().models.get(text)
    assert server.requests == []


@pytest.mark.parametrize(
    ("url", "is_here"),
    [
        ("http://127.0.0.1:8321", True),
        ("http://127.9.9.9", True),
        ("https://[::1]:8321", True),
        ("http://LOCALHOST:8321", True),
        ("http://quantry.localhost", True),
        ("http://10.0.0.1:8321", False),
        ("https://localhost.example.com", False),
        ("https://127.0.0.1.example.com", False),
    ],
)
def test_which_servers_are_this_machine(url: str, is_here: bool) -> None:
    assert is_loopback(url) is is_here
