"""Deployments as the api shows them, and the routes that gateways follow."""

from __future__ import annotations

import asyncio

from quantry_core.keys import Role

from .conftest import Api, slug

GATEWAY_PATH = "/internal/v1/routes"


async def deploy(api: Api, name: str = "bard") -> None:
    await api.submit(type="deploy", deployment=name, version="bard", replicas=2)


async def test_a_deploy_job_makes_a_deployment_and_no_message(api: Api) -> None:
    version_id = await api.make_master()
    job = await api.submit(type="deploy", deployment="bard", version="bard")
    assert (job["status"], job["queue"]) == ("queued", None)
    assert await api.claim() is None
    deployment = (await api[Role.VIEWER].get("/api/v1/deployments/bard")).json()
    assert (deployment["name"], deployment["is_stopped"]) == ("bard", False)
    assert deployment["active_rollout"]["job_id"] == job["id"]
    (rollout,) = (await api[Role.VIEWER].get("/api/v1/deployments/bard/rollouts")).json()["data"]
    assert (rollout["state"], rollout["job_id"]) == ("pending", job["id"])
    assert [item["name"] for item in (await api[Role.VIEWER].get("/api/v1/deployments")).json()["data"]] == ["bard"]
    assert job["inputs"][0]["version_id"] == version_id


async def test_two_rollouts_of_one_deployment_do_not_mix(api: Api) -> None:
    await api.make_master()
    await deploy(api)
    spec = {"type": "deploy", "deployment": "bard", "version": "bard"}
    second = await api[Role.OPERATOR].post("/api/v1/jobs", json={"spec": spec})
    assert (second.status_code, slug(second)) == (409, "rollout-in-progress")
    await deploy(api, "other")


async def test_stopping_and_starting_is_a_flag(api: Api) -> None:
    await api.make_master()
    await deploy(api)
    for action, is_stopped in (("stop", True), ("stop", True), ("start", False)):
        response = await api[Role.OPERATOR].post(f"/api/v1/deployments/bard/{action}")
        assert (response.status_code, response.json()["is_stopped"]) == (200, is_stopped)


async def test_unknown_deployments_are_404_and_bad_names_422(api: Api) -> None:
    for method, action in (("GET", ""), ("GET", "/rollouts"), ("POST", "/stop"), ("POST", "/start")):
        missing = await api[Role.OPERATOR].request(method, f"/api/v1/deployments/nothing{action}")
        assert (action, missing.status_code, slug(missing)) == (action, 404, "unknown-deployment")
        bad = await api[Role.OPERATOR].request(method, f"/api/v1/deployments/Bad{action}")
        assert (action, bad.status_code, slug(bad)) == (action, 422, "invalid-name")


async def test_routes_are_answered_at_once_or_when_they_change(api: Api) -> None:
    gateway = api[Role.GATEWAY]
    at_once = await gateway.get(GATEWAY_PATH)
    revision = at_once.json()["revision"]
    assert len(at_once.json()["keys"]) == 8
    for other in (-1, revision - 1, revision + 1):
        assert (await gateway.get(GATEWAY_PATH, params={"after": other})).json()["revision"] == revision
    unchanged = await gateway.get(GATEWAY_PATH, params={"after": revision, "wait_s": 0.3})
    assert (unchanged.status_code, unchanged.content) == (204, b"")

    waiting = asyncio.create_task(gateway.get(GATEWAY_PATH, params={"after": revision, "wait_s": 20}))
    await asyncio.sleep(0.4)
    assert not waiting.done()
    await api[Role.ADMIN].post("/api/v1/keys", json={"name": "new", "role": "viewer"})
    changed = (await asyncio.wait_for(waiting, 3)).json()
    assert changed["revision"] > revision
    assert len(changed["keys"]) == 9


async def test_a_revoked_key_leaves_the_routes(api: Api) -> None:
    before = (await api[Role.GATEWAY].get(GATEWAY_PATH)).json()
    viewer = (await api[Role.VIEWER].get("/api/v1/whoami")).json()["key_id"]
    await api[Role.ADMIN].delete(f"/api/v1/keys/{viewer}")
    after = (await api[Role.GATEWAY].get(GATEWAY_PATH)).json()
    assert after["revision"] > before["revision"]
    assert {key["key_id"] for key in before["keys"]} - {key["key_id"] for key in after["keys"]} == {viewer}


async def test_adapters_are_attached_listed_and_detached_by_name(api: Api) -> None:
    base_id = await api.make_master()
    await api.submit(type="deploy", deployment="bard", version="bard", engine={"max_adapters": 1})
    dataset_id = await api.make_dataset()
    adapter_id = await api.make_adapter(base_id, dataset_id)
    path = "/api/v1/deployments/bard/adapters"
    assert (await api[Role.VIEWER].put(f"{path}/pirate", json={"version": adapter_id})).status_code == 403
    attached = await api[Role.OPERATOR].put(f"{path}/pirate", json={"version": adapter_id})
    assert attached.status_code == 200, attached.text
    assert (attached.json()["name"], attached.json()["version_id"]) == ("pirate", adapter_id)
    assert (await api[Role.OPERATOR].put(f"{path}/pirate", json={"version": adapter_id})).json() == attached.json()
    assert (await api[Role.VIEWER].get(path)).json()["data"] == [attached.json()]
    assert (await api[Role.VIEWER].get(f"{path}/pirate")).json() == attached.json()
    assert (await api[Role.VIEWER].get("/api/v1/deployments/bard")).json()["adapters"] == [attached.json()]
    refused = await api[Role.OPERATOR].put(f"{path}/other", json={"version": base_id})
    assert (refused.status_code, slug(refused)) == (422, "not-servable")
    full = await api[Role.OPERATOR].put(f"{path}/other", json={"version": adapter_id})
    assert (full.status_code, slug(full)) == (409, "conflict")
    assert (await api[Role.OPERATOR].put(f"{path}/Bad", json={"version": adapter_id})).status_code == 422
    assert (await api[Role.OPERATOR].put(f"{path}/other", json={"version": adapter_id, "rank": 1})).status_code == 422
    routes = (await api[Role.GATEWAY].get(GATEWAY_PATH)).json()["routes"]
    assert [(route["deployment"], route["parent"]) for route in routes] == [("bard", None), ("pirate", "bard")]
    assert (await api[Role.OPERATOR].delete(f"{path}/pirate")).status_code == 204
    for method in ("GET", "DELETE"):
        gone = await api[Role.OPERATOR].request(method, f"{path}/pirate")
        assert (gone.status_code, slug(gone)) == (404, "not-found")
