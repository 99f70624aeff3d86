"""Requests and answers in ASGI's messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

import pytest
from starlette.types import Message, Receive, Scope

from quantry_core.errors import Unavailable
from quantry_gateway.exchange import Answer, BodyTooLarge, ClientGone, Request
from quantry_gateway.openai_errors import no_replica_ready, upstream_failed

GONE: Message = {"type": "http.disconnect"}


def body(data: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


def receiving(messages: Iterable[Message]) -> Receive:
    left = list(messages)

    async def receive() -> Message:
        if left:
            return left.pop(0)
        await asyncio.Event().wait()
        return GONE

    return receive


def request(*messages: Message) -> Request:
    scope: Scope = {
        "method": "POST",
        "raw_path": b"/v1/x",
        "path": "/v1/x",
        "query_string": b"",
        "headers": [],
        "scheme": "http",
        "client": None,
    }
    return Request.of(scope, receiving(messages))


class Sent(list[Message]):
    async def __call__(self, message: Message) -> None:
        self.append(message)


async def test_a_body_is_joined() -> None:
    asked = request(body(b"ab", more=True), body(b"", more=True), body(b"cd", more=False))
    assert await asked.body(declared_bytes=None, max_bytes=4) == b"abcd"


async def test_a_body_over_the_limit_is_refused_unread_or_on_the_way() -> None:
    with pytest.raises(BodyTooLarge):
        await request().body(declared_bytes=5, max_bytes=4)
    with pytest.raises(BodyTooLarge):
        await request(body(b"ab", more=True), body(b"cde", more=True)).body(declared_bytes=None, max_bytes=4)


async def test_a_body_that_breaks_off_is_never_whole() -> None:
    with pytest.raises(ClientGone):
        await request(body(b"ab", more=True), GONE).body(declared_bytes=4, max_bytes=4)


async def test_work_ends_when_the_client_leaves_and_cleans_up_first() -> None:
    asked = request(body(b"", more=False), GONE)
    await asked.body(declared_bytes=None, max_bytes=0)
    cleaned = False

    async def work() -> None:
        nonlocal cleaned
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned = True

    await asyncio.wait_for(asked.run_while_connected(work()), 1)
    assert cleaned


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_a_client_that_stays_is_not_taken_for_gone() -> None:
    asked = request(body(b"", more=False))
    await asked.body(declared_bytes=None, max_bytes=0)
    await asked.run_while_connected(asyncio.sleep(0.05, None))
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def test_a_client_that_has_left_leaves_nothing_of_its_cancellation_behind() -> None:
    asked = request(body(b"", more=False), GONE)
    await asked.body(declared_bytes=None, max_bytes=0)
    await asyncio.wait_for(asked.run_while_connected(for_ever()), 1)
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0
    await asyncio.sleep(0)


async def test_a_stop_of_the_server_passes_through() -> None:
    asked = request(body(b"", more=False))
    await asked.body(declared_bytes=None, max_bytes=0)
    serving = asyncio.create_task(asked.run_while_connected(for_ever()))
    await asyncio.sleep(0.03)
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving


async def test_the_failure_of_work_is_raised() -> None:
    async def work() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await request(body(b"", more=False)).run_while_connected(work())


async def test_every_answer_carries_the_requests_id() -> None:
    sent = Sent()
    answer = Answer(sent, b"r-1")
    states = [answer.started]
    await answer.problem(Unavailable("wait a little"), instance="/x", retry_after_s=2)
    assert [*states, answer.started] == [False, True]
    head, tail = sent
    headers = dict(head["headers"])
    assert head["status"] == 503
    assert headers[b"x-request-id"] == b"r-1"
    assert headers[b"retry-after"] == b"2"
    assert headers[b"content-type"] == b"application/problem+json"
    assert int(headers[b"content-length"]) == len(tail["body"])
    assert json.loads(tail["body"])["detail"] == "wait a little"


async def test_an_answer_of_a_release_says_which_and_knows_whether_it_is_an_open_stream() -> None:
    sent = Sent()
    answer = Answer(sent, b"r-1")
    answer.release_number = 12
    states = [answer.is_open_stream]
    await answer.stream(200, [(b"content-type", b"text/event-stream")])
    assert (b"x-quantry-release", b"12") in sent[0]["headers"]
    await answer.piece(b"data: 1\n\n")
    states.append(answer.is_open_stream)
    await answer.end()
    assert [*states, answer.is_open_stream] == [False, True, False]


async def test_openai_errors_have_their_four_fields() -> None:
    sent = Sent()
    await no_replica_ready("bard", 2).send(Answer(sent, b"r-1"))
    assert sent[0]["status"] == 503
    assert dict(sent[0]["headers"])[b"retry-after"] == b"2"
    error = json.loads(sent[1]["body"])["error"]
    assert error == {
        "message": "No replica of 'bard' is ready; try again shortly.",
        "type": "server_error",
        "param": "model",
        "code": "no_replica_ready",
    }
    event = upstream_failed("it broke").event()
    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    assert json.loads(event.removeprefix(b"data: "))["error"]["code"] == "upstream_failed"
