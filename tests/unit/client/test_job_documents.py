"""Jobs as the API's schema has them: ``quantry jobs submit json``, and the SDK for whoever does not know the types."""

from __future__ import annotations

import io
import json

import httpx
import pytest

from factories.client import FakeServer, answer, job, problem
from factories.command import run
from quantry.errors import ApiError
from quantry_core.errors import FieldProblem, Problem
from quantry_core.jobs import Estimate, EstimateFigures

DOCUMENT = {"spec": {"type": "not known here", "base": "é"}, "labels": {"team": "search"}}


def test_a_document_is_sent_as_it_is_under_its_key(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    assert run("jobs", "submit", "json", json.dumps(DOCUMENT), "--idempotency-key", "monday") == 0
    assert json.loads(server.requests[0].content) == DOCUMENT
    assert server.requests[0].headers["idempotency-key"] == "monday"
    assert f"quantry jobs watch {job().id}" in capsys.readouterr().out


def test_a_document_may_come_by_standard_input(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(DOCUMENT)))
    assert run("jobs", "submit", "json", "-", "--json") == 0
    assert json.loads(server.requests[0].content) == DOCUMENT


@pytest.mark.parametrize(("text", "words"), [("{", "this is not JSON"), ("[1]", "a JSON object is needed"), ("[" * 20_000, "not JSON")])
def test_what_is_no_document_reaches_no_server(server: FakeServer, capsys: pytest.CaptureFixture[str], text: str, words: str) -> None:
    assert run("jobs", "submit", "json", text) == 2
    assert words in capsys.readouterr().err
    assert server.requests == []


def test_an_estimate_of_a_document_is_asked_for(server: FakeServer) -> None:
    server.on("POST", "/api/v1/jobs/estimate", answer(Estimate(key="import/cpu", uncorrected=EstimateFigures(), minutes=2.0)))
    assert server.client().jobs.estimate_document(DOCUMENT).minutes == 2.0
    assert json.loads(server.requests[0].content) == DOCUMENT


def test_what_is_wrong_with_each_field_is_told(server: FakeServer) -> None:
    wrong = FieldProblem(field="spec.base", message="Field required")
    refusal = Problem(type="urn:quantry:problem:invalid-input", title="No", status=422, detail="no", errors=[wrong])
    server.on("POST", "/api/v1/jobs", lambda _request: httpx.Response(422, text=refusal.model_dump_json()))
    with pytest.raises(ApiError) as caught:
        server.client().jobs.submit_document(DOCUMENT)
    assert caught.value.errors == [wrong]


def test_the_openapi_document_is_read(server: FakeServer) -> None:
    server.on("GET", "/api/v1/openapi.json", lambda _request: httpx.Response(200, json={"openapi": "3.1.0", "paths": {}}))
    assert server.client().openapi() == {"openapi": "3.1.0", "paths": {}}
    server.on("GET", "/api/v1/openapi.json", problem(404, "not-found", "it is not published"))
    with pytest.raises(ApiError, match="not published"):
        server.client().openapi()
