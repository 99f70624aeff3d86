"""The frame of every service, on an app with a few endpoints of its own. The database is a small fake: no socket is used."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import httpx
import pytest
import structlog
from fastapi import APIRouter, Depends, FastAPI, Request
from pydantic import BaseModel
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Message

from quantry_core.errors import (
    PROBLEM_CONTENT_TYPE,
    PROBLEM_TYPE_PREFIX,
    Conflict,
    InvalidInput,
    QuantryError,
    Unavailable,
    all_error_types,
)
from quantry_core.jobs import JobSubmission
from quantry_core.keys import Identity, KnownKey, Role, hash_key
from quantry_core.names import Name
from quantry_core.permissions import ADMIN, ANY_KEY, ANYONE, GATEWAY, OPERATOR, PLATFORM_ADMIN, VIEWER, WORKER, Need
from quantry_http.app import create_app
from quantry_http.auth import Caller, UnlistedRoute
from quantry_http.body import allow_body
from quantry_http.pages import PageParams
from quantry_http.settings import HttpSettings
from quantry_store.database import Database
from quantry_telemetry.logs import configure_logging


class FakeKeys:
    def __init__(self, identities: dict[str, Identity]) -> None:
        self._identities = identities

    async def identify(self, key_hash: str) -> KnownKey | None:
        identity = self._identities.get(key_hash)
        return None if identity is None else KnownKey(identity=identity)


class FakeUnitOfWork:
    def __init__(self, identities: dict[str, Identity]) -> None:
        self.keys = FakeKeys(identities)


class FakeDatabase:
    """Holds one key per role, whose secret is the role's name."""

    def __init__(self) -> None:
        self.identities = {hash_key(role): Identity(key_id=f"key_{role}", project_id="prj_1", role=role) for role in Role}
        self.is_away = False

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[FakeUnitOfWork]:
        await self.ping()
        yield FakeUnitOfWork(self.identities)

    glance = begin

    async def ping(self) -> None:
        if self.is_away:
            raise Unavailable("the database did not answer; try again")


class Thing(BaseModel):
    name: Name
    size: int


SETTINGS = HttpSettings().model_copy(update={"max_body_bytes": 2000})

DOORS: dict[tuple[str, str], Need] = {
    ("GET", "/healthz"): ANYONE,
    ("GET", "/livez"): ANYONE,
    ("GET", "/metrics"): ANYONE,
    ("GET", "/openapi.json"): ANYONE,
    ("GET", "/viewer"): VIEWER,
    ("GET", "/operator"): OPERATOR,
    ("GET", "/admin"): ADMIN,
    ("GET", "/platform"): PLATFORM_ADMIN,
    ("GET", "/worker"): WORKER,
    ("GET", "/gateway"): GATEWAY,
    ("GET", "/any"): ANY_KEY,
    ("POST", "/jobs"): ANYONE,
    ("POST", "/things/{name}"): ANYONE,
    ("GET", "/things/{name}"): ANYONE,
    ("POST", "/stream"): ANYONE,
    ("GET", "/raise/{kind}"): ANYONE,
    ("GET", "/waits"): ANYONE,
    ("GET", "/listed/{name}"): VIEWER,
}


def add_endpoints(app: FastAPI) -> None:
    @app.get("/viewer")
    async def viewer(caller: Caller) -> Identity:
        return caller

    @app.get("/operator")
    async def operator(caller: Caller) -> Identity:
        return caller

    @app.get("/admin")
    async def admin(caller: Caller) -> Identity:
        return caller

    @app.get("/platform")
    async def platform(caller: Caller) -> Identity:
        return caller

    @app.get("/worker")
    async def worker(caller: Caller) -> Identity:
        return caller

    @app.get("/gateway")
    async def gateway(caller: Caller) -> Identity:
        return caller

    @app.get("/any")
    async def anybody(caller: Caller) -> Identity:
        return caller

    @app.post("/jobs")
    async def jobs(submission: JobSubmission) -> None:
        return None

    @app.post("/things/{name}")
    async def things(name: Name, thing: Thing, page: PageParams) -> dict[str, Any]:
        return {"after": page.after, "limit": page.limit}

    @app.get("/things/{name}")
    async def thing_of(name: Name) -> str:
        return name

    @app.post("/stream", dependencies=[Depends(allow_body(4000))])
    async def stream(request: Request) -> int:
        return len([None async for _ in request.stream()])

    @app.get("/raise/{kind}")
    async def raise_it(kind: str) -> None:
        errors: dict[str, Exception] = {
            "conflict": Conflict("no"),
            "away": Unavailable("later"),
            "crash": RuntimeError("password=hunter2"),
            "internal": QuantryError("secret detail"),
        }
        raise errors[kind]


@pytest.fixture
def database() -> FakeDatabase:
    return FakeDatabase()


@pytest.fixture
def app(database: FakeDatabase) -> FastAPI:
    async def broker() -> None:
        return None

    app = create_app(
        "test",
        database=cast(Database, database),
        health={"broker": broker},
        openapi_url="/openapi.json",
        permissions=DOORS,
        settings=SETTINGS,
    )
    add_endpoints(app)
    return app


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as http:
        yield http


def slug(response: httpx.Response) -> str:
    assert response.headers["content-type"] == PROBLEM_CONTENT_TYPE
    problem = response.json()
    assert problem["status"] == response.status_code
    assert problem["detail"]
    return str(problem["type"]).removeprefix(PROBLEM_TYPE_PREFIX)


ALLOWED = {
    "/viewer": {Role.VIEWER, Role.OPERATOR, Role.ADMIN},
    "/operator": {Role.OPERATOR, Role.ADMIN},
    "/admin": {Role.ADMIN},
    "/worker": {Role.WORKER},
    "/gateway": {Role.GATEWAY},
    "/any": set(Role),
}


@pytest.mark.parametrize("path", ALLOWED)
@pytest.mark.parametrize("role", Role)
async def test_each_door_opens_for_its_roles_alone(client: httpx.AsyncClient, path: str, role: Role) -> None:
    response = await client.get(path, headers={"Authorization": f"Bearer {role}"})
    if role in ALLOWED[path]:
        assert (response.status_code, response.json()["role"]) == (200, role)
    else:
        assert (response.status_code, slug(response)) == (403, "forbidden")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YWRtaW46", "admin", "Bearer nobody", "Bearer \xff"])
async def test_no_or_wrong_key_is_401(client: httpx.AsyncClient, header: str | None) -> None:
    headers = [] if header is None else [(b"Authorization", header.encode("latin-1"))]
    response = await client.get("/any", headers=headers)
    assert (response.status_code, slug(response)) == (401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


async def test_the_platforms_door_opens_for_admins_of_its_project_alone(client: httpx.AsyncClient, database: FakeDatabase) -> None:
    for role, is_platform, status in [
        (Role.ADMIN, True, 200),
        (Role.ADMIN, False, 403),
        (Role.OPERATOR, True, 403),
        (Role.WORKER, True, 403),
    ]:
        database.identities[hash_key("someone")] = Identity(key_id="key", project_id="prj_1", role=role, is_platform=is_platform)
        response = await client.get("/platform", headers={"Authorization": "Bearer someone"})
        assert (role, is_platform, response.status_code) == (role, is_platform, status)


async def test_a_listed_door_is_guarded_though_its_endpoint_asks_for_nobody(app: FastAPI, client: httpx.AsyncClient) -> None:
    router = APIRouter(prefix="/listed")

    @router.get("/{name}")
    async def listed(name: str) -> str:
        return name

    app.include_router(router)
    assert (await client.get("/listed/a")).status_code == 401
    assert (await client.get("/listed/a", headers={"Authorization": "Bearer worker"})).status_code == 403
    assert (await client.get("/listed/a", headers={"Authorization": "Bearer viewer"})).status_code == 200


def test_an_app_with_a_route_that_is_not_listed_cannot_be_built(app: FastAPI) -> None:
    router = APIRouter(prefix="/api")

    @router.post("/unheard-of/{name}")
    async def unheard_of(name: str) -> str:
        return name

    with pytest.raises(UnlistedRoute, match=r"POST /api/unheard-of/\{name\}"):
        app.include_router(router)


def test_what_no_dependency_would_guard_must_be_open(app: FastAPI) -> None:
    async def bare(_request: Request) -> Response:
        return Response("secret")

    with pytest.raises(UnlistedRoute, match="no endpoint of FastAPI's"):
        app.include_router(APIRouter(routes=[Route("/listed/{name}", bare)]))


def test_one_endpoint_has_one_need(app: FastAPI) -> None:
    router = APIRouter()

    async def both() -> str:
        return "both"

    router.add_api_route("/listed/{name}", both)
    router.add_api_route("/waits", both)
    with pytest.raises(UnlistedRoute, match="different things"):
        app.include_router(router)


async def test_a_route_added_past_the_check_answers_nobody(app: FastAPI, client: httpx.AsyncClient) -> None:
    @app.get("/smuggled")
    async def smuggled() -> str:
        return "secret"

    response = await client.get("/smuggled", headers={"Authorization": "Bearer admin"})
    assert (response.status_code, slug(response)) == (500, "internal")


async def test_a_revoked_key_is_refused_at_the_next_request(client: httpx.AsyncClient, database: FakeDatabase) -> None:
    headers = {"Authorization": "Bearer admin"}
    assert (await client.get("/any", headers=headers)).status_code == 200
    del database.identities[hash_key("admin")]
    assert (await client.get("/any", headers=headers)).status_code == 401


async def test_unknown_address_and_method_are_problems(client: httpx.AsyncClient) -> None:
    missing = await client.get("/nothing/here")
    assert (missing.status_code, slug(missing)) == (404, "not-found")
    assert "/nothing/here" in missing.json()["detail"]
    wrong = await client.delete("/viewer")
    assert (wrong.status_code, slug(wrong)) == (405, "method-not-allowed")
    assert wrong.headers["allow"] == "GET"


async def test_every_method_of_an_address_is_named_though_each_is_a_route_of_its_own(client: httpx.AsyncClient) -> None:
    wrong = await client.delete("/things/one")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, POST")
    assert wrong.json()["detail"] == "/things/one does not take DELETE; it takes GET, POST"


async def test_a_trailing_slash_is_not_redirected(client: httpx.AsyncClient) -> None:
    assert (await client.get("/viewer/")).status_code == 404


async def test_expected_errors_keep_status_and_type(client: httpx.AsyncClient) -> None:
    response = await client.get("/raise/conflict")
    assert (response.status_code, slug(response)) == (409, "conflict")
    assert response.json()["instance"] == "/raise/conflict"


async def test_unavailable_says_when_to_come_back(client: httpx.AsyncClient) -> None:
    response = await client.get("/raise/away")
    assert (response.status_code, slug(response)) == (503, "unavailable")
    assert int(response.headers["retry-after"]) >= 1


async def test_a_lost_database_is_503_at_every_guarded_address(client: httpx.AsyncClient, database: FakeDatabase) -> None:
    database.is_away = True
    response = await client.get("/viewer", headers={"Authorization": "Bearer admin"})
    assert (response.status_code, slug(response)) == (503, "unavailable")


@pytest.mark.parametrize(("kind", "hidden"), [("crash", "hunter2"), ("internal", "secret detail")])
async def test_a_crash_tells_the_caller_nothing_and_the_log_everything(client: httpx.AsyncClient, kind: str, hidden: str) -> None:
    with structlog.testing.capture_logs() as logs:
        response = await client.get(f"/raise/{kind}", headers={"X-Request-Id": "abc-1"})
    assert (response.status_code, slug(response)) == (500, "internal")
    assert hidden not in response.text
    assert "abc-1" in response.json()["detail"]
    assert [entry["exc_info"] for entry in logs if entry["event"] == "request crashed"] == [True]


async def test_request_id_is_taken_over_or_made(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz", headers={"X-Request-Id": "abc-1"})).headers["x-request-id"] == "abc-1"
    made = [(await client.get("/healthz", headers={"X-Request-Id": bad})).headers["x-request-id"] for bad in ("a b", "x" * 200)]
    assert all(len(request_id) == 32 for request_id in made)
    assert made[0] != made[1]


async def test_a_request_cancelled_by_the_stop_is_answered_and_raises_nothing(app: FastAPI) -> None:
    asked = asyncio.Event()
    sent: list[Message] = []

    @app.get("/waits")
    async def waits() -> None:
        asked.set()
        await asyncio.Event().wait()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": "/waits", "raw_path": b"/waits", "query_string": b"", "headers": []}
    running = asyncio.ensure_future(app(scope, receive, send))
    await asked.wait()
    running.cancel()
    await running
    assert sent[0]["status"] == 503
    assert b"being stopped" in sent[1]["body"]


async def test_health_names_what_is_away(client: httpx.AsyncClient, database: FakeDatabase) -> None:
    assert (await client.get("/healthz")).json() == {"status": "ok"}
    database.is_away = True
    response = await client.get("/healthz")
    assert (response.status_code, slug(response)) == (503, "unavailable")
    assert "database" in response.json()["detail"]
    assert "broker" not in response.json()["detail"]


async def post(client: httpx.AsyncClient, path: str, body: Any) -> httpx.Response:
    return await client.post(path, json=body)


async def test_an_unknown_job_type_names_the_known_ones(client: httpx.AsyncClient) -> None:
    response = await post(client, "/jobs", {"spec": {"type": "distill"}})
    assert (response.status_code, slug(response)) == (422, "unknown-job-type")
    assert all(name in response.json()["detail"] for name in ("distill", "import", "quantize", "evaluate", "deploy"))


async def test_an_unknown_job_type_that_is_no_text_is_still_a_problem(client: httpx.AsyncClient) -> None:
    for content in (b'{"spec": {"type": 7}}', b'{"spec": {"type": ["import"]}}', b'{"spec": {}}'):
        response = await client.post("/jobs", content=content, headers={"Content-Type": "application/json"})
        assert response.status_code == 422
        assert slug(response) in {"unknown-job-type", "invalid-input"}
        assert "quantize" in response.json()["detail"]


BAD_NAMES = ["a/b", "..", "a..b", "nul\0", "x" * 300, "", "Upper", "-a", "a ", "ä"]


@pytest.mark.parametrize("name", BAD_NAMES)
async def test_bad_names_are_refused_in_a_body(client: httpx.AsyncClient, name: str) -> None:
    response = await post(client, "/jobs", {"spec": {"type": "import", "model": name, "source": "/models/a"}})
    assert (response.status_code, slug(response)) == (422, "invalid-name")
    assert [error["field"] for error in response.json()["errors"]] == ["spec.model"]


@pytest.mark.parametrize("name", ["..%2e", "nul%00", "x" * 300, "Upper"])
async def test_bad_names_are_refused_in_an_address(client: httpx.AsyncClient, name: str) -> None:
    response = await post(client, f"/things/{name}", {"name": "a", "size": 1})
    assert (response.status_code, slug(response)) == (422, "invalid-name")


async def test_every_bad_field_is_named_by_its_path(client: httpx.AsyncClient) -> None:
    spec = {"type": "quantize", "calibration": {"datasets": [1], "seed": -1}, "extra": 1, "damping": "much"}
    response = await post(client, "/jobs", {"spec": spec, "priority": 11})
    assert (response.status_code, slug(response)) == (422, "invalid-input")
    fields = {error["field"] for error in response.json()["errors"]}
    assert fields == {
        "spec.base",
        "spec.calibration.datasets.0",
        "spec.calibration.seed",
        "spec.extra",
        "spec.damping",
        "priority",
    }


async def test_query_parameters_are_named_too(client: httpx.AsyncClient) -> None:
    response = await client.post("/things/a?after=x%00&limit=1000", json={"name": "a", "size": 1})
    assert (response.status_code, slug(response)) == (422, "invalid-input")
    assert {error["field"] for error in response.json()["errors"]} == {"after", "limit"}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null", b"[" * 1500])
async def test_a_body_that_is_no_object_is_a_problem(client: httpx.AsyncClient, content: bytes) -> None:
    response = await client.post("/jobs", content=content, headers={"Content-Type": "application/json"})
    assert response.status_code in {400, 422}
    assert slug(response) in {"malformed-request", "invalid-input"}


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "a JSON body is needed"), (b"null", "a JSON object is needed"), (b'{"spec": {"type": "quantize", "calibration": 1}}', "object")],
)
async def test_what_is_missing_is_said_in_words_of_json(client: httpx.AsyncClient, content: bytes, words: str) -> None:
    response = await client.post("/jobs", content=content, headers={"Content-Type": "application/json"})
    assert words in response.json()["detail"]
    assert "dictionary" not in response.json()["detail"]


async def chunks(num_bytes: int) -> AsyncIterator[bytes]:
    for _ in range(num_bytes // 1000):
        yield b" " * 1000


async def test_long_bodies_are_refused_declared_or_not(client: httpx.AsyncClient) -> None:
    declared = await client.post("/jobs", content=b" " * 2001, headers={"Content-Type": "application/json"})
    assert (declared.status_code, slug(declared)) == (413, "too-large")
    chunked = await client.post("/jobs", content=chunks(3000), headers={"Content-Type": "application/json"})
    assert (chunked.status_code, slug(chunked)) == (413, "too-large")


async def test_an_endpoint_may_take_longer_bodies(client: httpx.AsyncClient) -> None:
    assert (await client.post("/stream", content=chunks(4000))).status_code == 200
    too_long = await client.post("/stream", content=chunks(5000))
    assert (too_long.status_code, slug(too_long)) == (413, "too-large")


async def test_openapi_names_operations_and_documents_problems(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert {operation["operationId"] for operation in operations} >= {"viewer", "jobs", "things"}
    for operation in operations:
        assert set(operation["responses"]["422"]["content"]) == {PROBLEM_CONTENT_TYPE}
    assert document["paths"]["/viewer"]["get"]["security"] == [{"ApiKey": []}]
    assert document["paths"]["/jobs"]["post"]["security"] == []
    assert document["components"]["securitySchemes"]["ApiKey"]["scheme"] == "bearer"
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_problem_slugs_are_unique() -> None:
    slugs = [error.slug for error in all_error_types()]
    assert len(slugs) == len(set(slugs))


def test_log_lines_are_json_with_the_service_and_the_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, structlog.get_config())
    try:
        configure_logging("spec")
        structlog.contextvars.bind_contextvars(request_id="r1")
        structlog.get_logger("ours").info("hello", number=1)
        try:
            raise InvalidInput("boom")
        except InvalidInput:
            logging.getLogger("theirs").exception("broke")
    finally:
        structlog.contextvars.clear_contextvars()
        root.handlers[:], root.level = before[0], before[1]
        structlog.configure(**before[2])
    ours, theirs = (json.loads(line) for line in capsys.readouterr().err.splitlines())
    assert (ours["event"], ours["number"], ours["service"], ours["request_id"]) == ("hello", 1, "spec", "r1")
    assert (theirs["event"], theirs["logger"], theirs["level"]) == ("broke", "theirs", "error")
    assert "InvalidInput: boom" in theirs["exception"]
