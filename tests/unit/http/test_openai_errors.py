"""Errors under /v1 have OpenAI's shape, all others stay problem documents."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Annotated, cast

import httpx
import pytest
from fastapi import FastAPI, Query

from quantry_core.errors import PROBLEM_CONTENT_TYPE, Conflict, FieldProblem, InvalidInput, Unauthorized, Unavailable
from quantry_core.openai_errors import OpenAIErrorBody, is_openai_path, openai_error
from quantry_core.permissions import ANYONE, Need
from quantry_http.app import create_app
from quantry_http.settings import HttpSettings
from quantry_store.database import Database

OWN_PATHS = ("/healthz", "/livez", "/metrics", "/openapi.json")
DOORS: Mapping[tuple[str, str], Need] = {("GET", path): ANYONE for path in OWN_PATHS} | {
    door: ANYONE for prefix in ("/v1", "/api/v1") for door in (("GET", f"{prefix}/raise/{{kind}}"), ("POST", f"{prefix}/take"))
}


class NoDatabase:
    async def ping(self) -> None:
        return None


@pytest.fixture
def app() -> FastAPI:
    app = create_app(
        "test",
        database=cast(Database, NoDatabase()),
        openapi_url="/openapi.json",
        permissions=DOORS,
        settings=HttpSettings().model_copy(update={"max_body_bytes": 100}),
    )

    async def raise_it(kind: str, number: Annotated[int, Query(ge=1)] = 1) -> int:
        errors: dict[str, Exception] = {
            "conflict": Conflict("no"),
            "away": Unavailable("later"),
            "key": Unauthorized("who?"),
            "lines": InvalidInput("line 2 is bad", errors=[FieldProblem(field=f"line {line}", message="bad") for line in (2, 5)]),
            "crash": RuntimeError("password=hunter2"),
        }
        raise errors[kind]

    async def take(body: dict[str, str]) -> None:
        return None

    for prefix in ("/v1", "/api/v1"):
        name = prefix.replace("/", "_")
        app.add_api_route(f"{prefix}/raise/{{kind}}", raise_it, name=f"raise{name}")
        app.add_api_route(f"{prefix}/take", take, methods=["POST"], name=f"take{name}")
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        yield http


@pytest.mark.parametrize(
    ("path", "status", "kind", "code", "param"),
    [
        ("raise/conflict", 409, "invalid_request_error", "conflict", None),
        ("raise/away", 503, "server_error", "unavailable", None),
        ("raise/key", 401, "invalid_request_error", "invalid_api_key", None),
        ("raise/lines", 400, "invalid_request_error", "invalid_input", "line 2"),
        ("raise/crash", 500, "server_error", "internal", None),
        ("raise/conflict?number=0", 400, "invalid_request_error", "invalid_input", "number"),
        ("nothing", 404, "invalid_request_error", "not_found", None),
        ("take", 405, "invalid_request_error", "method_not_allowed", None),
    ],
)
async def test_every_error_has_its_shape_by_its_path(
    *, client: httpx.AsyncClient, path: str, status: int, kind: str, code: str, param: str | None
) -> None:
    answer = await client.get(f"/v1/{path}")
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    error = OpenAIErrorBody.model_validate_json(answer.content).error
    assert (error.type, error.code, error.param) == (kind, code, param)
    assert "hunter2" not in answer.text
    problem = await client.get(f"/api/v1/{path}")
    assert problem.headers["content-type"] == PROBLEM_CONTENT_TYPE
    if status != 500:  # that one names its request
        assert problem.json()["detail"].replace("/api/v1/", "/v1/") == error.message
    assert problem.json()["errors"] == [one.model_dump() for one in error.errors]
    assert {name: answer.headers.get(name) for name in ("retry-after", "www-authenticate")} == {
        name: problem.headers.get(name) for name in ("retry-after", "www-authenticate")
    }


async def test_a_body_that_is_too_long_or_no_json_is_told(client: httpx.AsyncClient) -> None:
    long = await client.post("/v1/take", json={"a": "x" * 200})
    assert (long.status_code, long.json()["error"]["code"]) == (413, "too_large")
    broken = await client.post("/v1/take", content=b"{", headers={"content-type": "application/json"})
    assert (broken.status_code, broken.json()["error"]["type"]) == (400, "invalid_request_error")


async def test_the_document_tells_both_shapes(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    ours = document["paths"]["/api/v1/take"]["post"]["responses"]
    theirs = document["paths"]["/v1/take"]["post"]["responses"]
    assert set(ours["422"]["content"]) == {PROBLEM_CONTENT_TYPE}
    assert theirs["400"]["content"] == {"application/json": {"schema": {"$ref": "#/components/schemas/OpenAIErrorBody"}}}
    assert "422" not in theirs
    assert {"OpenAIErrorBody", "OpenAIErrorDetail", "FieldProblem"} <= set(document["components"]["schemas"])


@pytest.mark.parametrize(
    ("path", "is_one"), [("/v1/files", True), ("/v1", False), ("/api/v1/jobs", False), ("/v10/x", False), (None, False)]
)
def test_what_openai_s_clients_call(path: str | None, is_one: bool) -> None:
    assert is_openai_path(path) is is_one


def test_a_field_without_a_name_is_no_param() -> None:
    problem = InvalidInput("a body is needed", errors=[FieldProblem(field="", message="a body is needed")]).problem("/v1/x")
    assert openai_error(problem).error.param is None
