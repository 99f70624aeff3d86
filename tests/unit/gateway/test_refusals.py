"""Refusals of the gateway itself have the shape that the path's own service would have given them."""

from __future__ import annotations

import asyncio
import json

import pytest
from starlette.types import Message, Receive, Scope

from quantry_core.errors import PROBLEM_CONTENT_TYPE, InvalidInput, QuantryError, Unauthorized, Unavailable
from quantry_gateway.exchange import Answer, Request
from quantry_gateway.openai_errors import missing_model, model_not_found
from quantry_gateway.refusals import refuse


class Sent(list[Message]):
    async def __call__(self, message: Message) -> None:
        self.append(message)


async def nothing() -> Message:
    await asyncio.Event().wait()
    raise AssertionError


def request(raw_path: bytes) -> Request:
    scope: Scope = {
        "method": "GET",
        "raw_path": raw_path,
        "path": raw_path.decode(),
        "query_string": b"",
        "headers": [],
        "scheme": "http",
        "client": None,
    }
    receive: Receive = nothing
    return Request.of(scope, receive)


@pytest.mark.parametrize(
    ("error", "status", "kind", "code"),
    [
        (Unauthorized("who?"), 401, "invalid_request_error", "invalid_api_key"),
        (InvalidInput("not so"), 400, "invalid_request_error", "invalid_input"),
        (Unavailable("later"), 503, "server_error", "unavailable"),
    ],
)
async def test_under_v1_an_error_has_the_status_and_the_words_of_openai(error: QuantryError, status: int, kind: str, code: str) -> None:
    sent = Sent()
    await refuse(request(b"/v1/files"), Answer(sent, b"r-1"), error, retry_after_s=2)
    assert sent[0]["status"] == status
    assert json.loads(sent[1]["body"])["error"] == {"message": error.detail, "type": kind, "param": None, "code": code}
    assert dict(sent[0]["headers"]).get(b"retry-after") == (b"2" if status == 503 else None)


async def test_the_tokenizer_beside_v1_speaks_as_openai_too() -> None:
    sent = Sent()
    await refuse(request(b"/tokenize"), Answer(sent, b"r-1"), Unavailable("later"), retry_after_s=2)
    assert json.loads(sent[1]["body"])["error"]["code"] == "unavailable"


async def test_under_mlflow_an_error_has_the_words_of_mlflow() -> None:
    sent = Sent()
    await refuse(request(b"/mlflow/api/2.0/mlflow/registered-models/get"), Answer(sent, b"r-1"), Unavailable("later"), retry_after_s=2)
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"retry-after"]) == (503, b"2")
    assert json.loads(sent[1]["body"]) == {"error_code": "TEMPORARILY_UNAVAILABLE", "message": "later"}


async def test_elsewhere_it_is_a_problem_document() -> None:
    sent = Sent()
    await refuse(request(b"/api/v1/jobs"), Answer(sent, b"r-1"), InvalidInput("not so"), retry_after_s=2)
    assert (sent[0]["status"], dict(sent[0]["headers"])[b"content-type"]) == (422, PROBLEM_CONTENT_TYPE.encode())


def test_a_model_may_be_a_deployment_or_an_adapter() -> None:
    assert model_not_found("pirate").message.startswith("There is no deployment and no adapter named 'pirate'")
    assert "a deployment or an adapter" in missing_model().message
