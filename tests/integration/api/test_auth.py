"""Who may do what, at every address that there is."""

from __future__ import annotations

import httpx
import pytest
from fastapi.routing import APIRoute

from quantry_api.app import ROUTERS
from quantry_core.keys import Role, new_key_secret

from .conftest import Api, client_of, slug

PEOPLE = frozenset({Role.VIEWER, Role.OPERATOR, Role.ADMIN})
OPERATORS = frozenset({Role.OPERATOR, Role.ADMIN})
ADMINS = frozenset({Role.ADMIN})
WORKERS = frozenset({Role.WORKER})
JOB = f"job_{'0' * 32}"
PIPELINE = f"pip_{'0' * 32}"
WORKER = f"wrk_{'0' * 32}"
SCHEDULE = f"sch_{'0' * 32}"
ROLLOUT = f"rol_{'0' * 32}"

ALLOWED: dict[tuple[str, str], frozenset[Role]] = {
    ("POST", "/api/v1/jobs"): OPERATORS,
    ("GET", "/api/v1/jobs"): PEOPLE,
    ("GET", "/api/v1/jobs/{job_id}"): PEOPLE,
    ("POST", "/api/v1/jobs/{job_id}/cancel"): OPERATORS,
    ("POST", "/api/v1/jobs/{job_id}/retry"): OPERATORS,
    ("GET", "/api/v1/jobs/{job_id}/events"): PEOPLE,
    ("GET", "/api/v1/jobs/{job_id}/log"): PEOPLE,
    ("GET", "/api/v1/jobs/{job_id}/curve"): PEOPLE,
    ("GET", "/api/v1/jobs/{job_id}/checkpoints"): PEOPLE,
    ("POST", "/api/v1/jobs/estimate"): PEOPLE,
    ("GET", "/api/v1/workers"): PEOPLE,
    ("GET", "/api/v1/project"): PEOPLE,
    ("POST", "/api/v1/schedules"): OPERATORS,
    ("GET", "/api/v1/schedules"): PEOPLE,
    ("POST", "/api/v1/schedules/preview"): PEOPLE,
    ("GET", "/api/v1/schedules/{schedule_id}"): PEOPLE,
    ("PATCH", "/api/v1/schedules/{schedule_id}"): OPERATORS,
    ("DELETE", "/api/v1/schedules/{schedule_id}"): OPERATORS,
    ("POST", "/api/v1/schedules/{schedule_id}/run"): OPERATORS,
    ("GET", "/api/v1/schedules/{schedule_id}/runs"): PEOPLE,
    ("PUT", "/api/v1/execution/workers/{worker_id}"): WORKERS,
    ("POST", "/api/v1/pipelines"): OPERATORS,
    ("GET", "/api/v1/pipelines"): PEOPLE,
    ("GET", "/api/v1/pipelines/{pipeline_id}"): PEOPLE,
    ("POST", "/api/v1/pipelines/{pipeline_id}/cancel"): OPERATORS,
    ("POST", "/api/v1/pipelines/{pipeline_id}/retry"): OPERATORS,
    ("POST", "/api/v1/execution/next"): WORKERS,
    ("POST", "/api/v1/execution/jobs/{job_id}/heartbeat"): WORKERS,
    ("POST", "/api/v1/execution/jobs/{job_id}/events"): WORKERS,
    ("POST", "/api/v1/execution/jobs/{job_id}/checkpoints"): WORKERS,
    ("POST", "/api/v1/execution/jobs/{job_id}/finish"): WORKERS,
    ("GET", "/api/v1/deployments"): PEOPLE,
    ("GET", "/api/v1/deployments/{name}"): PEOPLE,
    ("GET", "/api/v1/deployments/{name}/rollouts"): PEOPLE,
    ("GET", "/api/v1/deployments/{name}/releases"): PEOPLE,
    ("POST", "/api/v1/deployments/{name}/rollback"): OPERATORS,
    ("GET", "/api/v1/deployments/{name}/history"): PEOPLE,
    ("GET", "/api/v1/deployments/{name}/at"): PEOPLE,
    ("GET", "/api/v1/deployments/{name}/diff"): PEOPLE,
    ("GET", "/api/v1/deployments/{name}/capture"): PEOPLE,
    ("PUT", "/api/v1/deployments/{name}/capture"): OPERATORS,
    ("DELETE", "/api/v1/deployments/{name}/capture"): OPERATORS,
    ("POST", "/api/v1/rollouts"): OPERATORS,
    ("GET", "/api/v1/rollouts"): PEOPLE,
    ("GET", "/api/v1/rollouts/{rollout_id}"): PEOPLE,
    ("GET", "/api/v1/rollouts/{rollout_id}/traffic"): PEOPLE,
    ("POST", "/api/v1/rollouts/{rollout_id}/pause"): OPERATORS,
    ("POST", "/api/v1/rollouts/{rollout_id}/resume"): OPERATORS,
    ("POST", "/api/v1/rollouts/{rollout_id}/promote"): OPERATORS,
    ("POST", "/api/v1/rollouts/{rollout_id}/abort"): OPERATORS,
    ("POST", "/api/v1/rollouts/{rollout_id}/rollback"): OPERATORS,
    ("GET", "/api/v1/deployments/{name}/adapters"): PEOPLE,
    ("GET", "/api/v1/deployments/{name}/adapters/{adapter}"): PEOPLE,
    ("PUT", "/api/v1/deployments/{name}/adapters/{adapter}"): OPERATORS,
    ("DELETE", "/api/v1/deployments/{name}/adapters/{adapter}"): OPERATORS,
    ("POST", "/api/v1/deployments/{name}/stop"): OPERATORS,
    ("POST", "/api/v1/deployments/{name}/start"): OPERATORS,
    ("GET", "/api/v1/whoami"): frozenset(Role),
    ("GET", "/api/v1/keys"): ADMINS,
    ("POST", "/api/v1/keys"): ADMINS,
    ("DELETE", "/api/v1/keys/{key_id}"): ADMINS,
    ("GET", "/api/v1/audit"): ADMINS,
    ("GET", "/api/v1/methods"): PEOPLE,
    ("GET", "/api/v1/methods/{method}"): PEOPLE,
    ("POST", "/v1/fine_tuning/jobs"): OPERATORS,
    ("GET", "/v1/fine_tuning/jobs"): PEOPLE,
    ("GET", "/v1/fine_tuning/jobs/{job_id}"): PEOPLE,
    ("POST", "/v1/fine_tuning/jobs/{job_id}/cancel"): OPERATORS,
    ("GET", "/v1/fine_tuning/jobs/{job_id}/events"): PEOPLE,
    ("GET", "/v1/fine_tuning/jobs/{job_id}/checkpoints"): PEOPLE,
    ("GET", "/internal/v1/routes"): frozenset({Role.GATEWAY}),
    ("POST", "/internal/v1/traffic"): frozenset({Role.GATEWAY}),
    ("POST", "/internal/v1/captures"): frozenset({Role.GATEWAY}),
}


OPEN = frozenset({("GET", "/metrics")})
"""Doors without a key: sums over all projects for whoever scrapes; the gateway does not lead there."""


def test_the_table_names_every_endpoint() -> None:
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    assert {(method, route.path) for route in routes for method in route.methods or ()} == set(ALLOWED) | OPEN


def call(client: httpx.AsyncClient, method: str, path: str) -> httpx.Request:
    # A body that no endpoint takes: the key must be looked at before it.
    body = {"nonsense": True} if method in {"POST", "PATCH", "PUT"} else None
    ids = {"job_id": JOB, "pipeline_id": PIPELINE, "schedule_id": SCHEDULE, "rollout_id": ROLLOUT, "worker_id": WORKER, "key_id": "key_x"}
    named = path.format(**ids, name="nothing", adapter="nothing", method="gptq")
    return client.build_request(method, named, json=body)


async def test_each_role_gets_through_its_own_doors_alone(api: Api) -> None:
    wrong = []
    for (method, path), allowed in ALLOWED.items():
        for role in Role:
            client = api[role]
            response = await client.send(call(client, method, path))
            if (response.status_code == 403) is (role in allowed) or response.status_code == 401:
                wrong.append((method, path, role, response.status_code))
    assert wrong == []


async def test_without_a_good_key_every_door_is_shut(api: Api) -> None:
    for secret in (None, "", "qtr_wrong", new_key_secret()):
        async with client_of(api.app, secret) as client:
            for method, path in ALLOWED:
                response = await client.send(call(client, method, path))
                # Below /v1 in OpenAI's words.
                is_openai = path.startswith("/v1/")
                code = response.json()["error"]["code"] if is_openai else slug(response)
                expected = "invalid_api_key" if is_openai else "unauthorized"
                assert (method, path, response.status_code, code) == (method, path, 401, expected)


async def test_a_key_lives_from_its_making_to_its_revocation(api: Api) -> None:
    made = await api[Role.ADMIN].post("/api/v1/keys", json={"name": "ci", "role": "viewer"})
    assert made.status_code == 201
    key, secret = made.json()["key"], made.json()["secret"]
    assert key["prefix"] == secret[:8]
    async with client_of(api.app, secret) as client:
        whoami = await client.get("/api/v1/whoami")
        assert whoami.json() == {"key_id": key["id"], "project_id": api.project_id, "role": "viewer"}
        assert (await api[Role.ADMIN].delete(f"/api/v1/keys/{key['id']}")).status_code == 204
        after = await client.get("/api/v1/whoami")
        assert (after.status_code, slug(after)) == (401, "unauthorized")
    listed = (await api[Role.ADMIN].get("/api/v1/keys")).json()["data"]
    assert next(item for item in listed if item["id"] == key["id"])["revoked_at"] is not None
    assert secret not in str(listed)
    actions = [entry["action"] for entry in (await api[Role.ADMIN].get("/api/v1/audit")).json()["data"]]
    assert actions[:2] == ["key.revoke", "key.create"]


async def test_revoking_what_is_not_there_is_404(api: Api) -> None:
    for key_id in ("key_" + "0" * 32, "nonsense", "nul%00"):
        response = await api[Role.ADMIN].delete(f"/api/v1/keys/{key_id}")
        assert (response.status_code, slug(response)) == (404, "not-found")


async def test_a_key_of_another_project_sees_nothing_of_this_one(api: Api) -> None:
    job = await api.submit_import()
    async with api.database.begin() as uow:
        other = await uow.projects.get_or_create("other")
        _, secret = await uow.keys.create(other, "stranger", Role.ADMIN)
    async with client_of(api.app, secret) as client:
        assert (await client.get("/api/v1/jobs")).json()["data"] == []
        for action in ("", "/events", "/log"):
            response = await client.get(f"/api/v1/jobs/{job['id']}{action}")
            assert (response.status_code, slug(response)) == (404, "unknown-job")
        assert (await client.post(f"/api/v1/jobs/{job['id']}/cancel")).status_code == 404


@pytest.mark.parametrize("role", [Role.GATEWAY, Role.WORKER])
async def test_no_admin_makes_a_key_of_the_platform(api: Api, role: Role) -> None:
    """A gateway's key sees the routes of every project, a worker's key the jobs."""
    refused = await api[Role.ADMIN].post("/api/v1/keys", json={"name": "mine", "role": role})
    assert refused.status_code == 422
    assert refused.json()["type"] == "urn:quantry:problem:invalid-input"
    listed = (await api[Role.ADMIN].get("/api/v1/keys")).json()["data"]
    assert "mine" not in {key["name"] for key in listed}
