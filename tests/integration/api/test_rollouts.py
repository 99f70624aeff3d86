"""Rollouts as people begin them, look at them and hold them up; each word of it that is wrong is named."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from factories.store import MOVES, replica
from quantry_core.keys import Role
from quantry_core.rollouts import Rollout
from quantry_core.traffic import Tally, TrafficReport, TrafficWindow
from quantry_store.transactions import begin_rollout, promote_rollout, stage_rollout, upsert_replica

from .conftest import Api, client_of, slug

ROLLOUTS = "/api/v1/rollouts"
NOBODY = f"{ROLLOUTS}/rol_{'0' * 32}"
CANARY = {"name": "canary", "steps": [{"percent": 10}, {"percent": 100, "analysis": False}]}


def spec(**changes: Any) -> dict[str, Any]:
    return {"type": "deploy", "deployment": "bard", "version": "bard", **changes}


async def create(api: Api, **changes: Any) -> dict[str, Any]:
    response = await api[Role.OPERATOR].post(ROLLOUTS, json=spec(**changes))
    assert response.status_code == 201, response.text
    rollout: dict[str, Any] = response.json()
    return rollout


async def ask(api: Api, rollout: dict[str, Any], request: str, **action: Any) -> httpx.Response:
    return await api[Role.OPERATOR].post(f"{ROLLOUTS}/{rollout['id']}/{request}", json=action or None)


async def shown(api: Api, rollout: dict[str, Any]) -> Rollout:
    return Rollout.model_validate((await api[Role.VIEWER].get(f"{ROLLOUTS}/{rollout['id']}")).json())


async def promote(api: Api, rollout: dict[str, Any]) -> None:
    async with api.database.begin() as uow:
        await begin_rollout(uow, rollout["id"])
    async with api.database.begin() as uow:
        await promote_rollout(uow, rollout["id"])


async def expose(api: Api, rollout: dict[str, Any], percent: int = 10) -> Rollout:
    async with api.database.begin() as uow:
        begun = await begin_rollout(uow, rollout["id"])
    async with api.database.begin() as uow:
        return await stage_rollout(uow, begun.id, seen=begun, stage=0, percent=percent, mirror_percent=0)


async def actions(api: Api) -> list[str]:
    told = [entry["action"] for entry in (await api[Role.ADMIN].get("/api/v1/audit?limit=100")).json()["data"]]
    return [action for action in told if action not in MOVES]


async def test_a_rollout_is_a_deploy_job(api: Api) -> None:
    await api.make_master()
    rollout = await create(api, strategy=CANARY, watch_s=60, note="smaller")
    assert (rollout["state"], rollout["cause"], rollout["note"], rollout["watch_s"]) == ("pending", "deploy", "smaller", 60)
    assert [step["percent"] for step in rollout["strategy"]["steps"]] == [10, 100]
    job = await api.show({"id": rollout["job_id"]})
    assert (job["type"], job["status"], job["spec"]["strategy"]["name"]) == ("deploy", "queued", "canary")
    assert await shown(api, rollout) == Rollout.model_validate(rollout)
    for query, found in (({}, 1), ({"deployment": "bard"}, 1), ({"state": "pending"}, 1), ({"state": "promoted"}, 0)):
        listed = (await api[Role.VIEWER].get(ROLLOUTS, params=query)).json()["data"]
        assert (query, len(listed)) == (query, found)
    unknown = await api[Role.VIEWER].get(ROLLOUTS, params={"deployment": "nothing"})
    assert (unknown.status_code, slug(unknown)) == (404, "unknown-deployment")


async def test_sent_twice_it_is_one(api: Api) -> None:
    await api.make_master()
    headers = {"Idempotency-Key": "first"}
    answers = [await api[Role.OPERATOR].post(ROLLOUTS, json=spec(), headers=headers) for _ in range(2)]
    assert answers[0].json() == answers[1].json()
    other = await api[Role.OPERATOR].post(ROLLOUTS, json=spec(watch_s=1), headers=headers)
    assert (other.status_code, slug(other)) == (422, "idempotency-key-reused")


async def test_a_job_that_waits_has_no_rollout_yet(api: Api) -> None:
    job = await api.submit_import()
    waits = await api[Role.OPERATOR].post(ROLLOUTS, json=spec(version=f"output:{job['id']}"))
    assert (waits.status_code, waits.json()["status"], waits.json()["waiting_on"]) == (202, "waiting", "needs")
    assert (await api[Role.VIEWER].get(ROLLOUTS)).json()["data"] == []


async def test_what_people_ask_holds_at_once_and_may_be_asked_again(api: Api) -> None:
    await api.make_master()
    await promote(api, await create(api))
    rollout = await create(api, strategy=CANARY)
    await expose(api, rollout)
    before = len(await actions(api))
    for request, state in (("pause", "paused"), ("resume", "progressing"), ("promote", "progressing"), ("rollback", "rolled_back")):
        for _ in range(2):
            answer = await ask(api, rollout, request, note="because")
            assert (request, answer.status_code, answer.json()["state"]) == (request, 200, state)
    assert (await actions(api))[:-before] == ["rollout.rollback", "rollout.promote", "rollout.resume", "rollout.pause"]
    job = await api.show({"id": rollout["job_id"]})
    assert (job["status"], job["message"]) == ("cancelled", "rolled back by request: because")
    routes = (await api[Role.GATEWAY].get("/internal/v1/routes")).json()["routes"]
    assert [variant["percent"] for variant in routes[0]["variants"]] == [100]


async def test_what_is_over_is_refused_by_its_state(api: Api) -> None:
    await api.make_master()
    first = await create(api)
    await promote(api, first)
    assert (await ask(api, first, "promote")).json()["state"] == "promoted"
    second = await create(api)
    assert (await ask(api, second, "abort")).json()["state"] == "aborted"
    for rollout, state, request in ((second, "aborted", "promote"), (second, "aborted", "resume"), (first, "promoted", "abort")):
        over = await ask(api, rollout, request)
        assert (over.status_code, slug(over)) == (409, "rollout-over")
        assert f"is {state}" in over.json()["detail"]


@pytest.mark.parametrize("request_", ["", "/traffic", "/pause", "/resume", "/promote", "/abort", "/rollback"])
async def test_an_unknown_rollout_is_404(api: Api, request_: str) -> None:
    method = "GET" if request_ in {"", "/traffic"} else "POST"
    for path in (f"{NOBODY}{request_}", f"{ROLLOUTS}/nonsense{request_}"):
        answer = await api[Role.OPERATOR].request(method, path)
        assert (answer.status_code, slug(answer)) == (404, "unknown-rollout")


async def test_a_key_of_another_project_finds_and_changes_nothing(api: Api) -> None:
    await api.make_master()
    rollout = await create(api)
    async with api.database.begin() as uow:
        other = await uow.projects.get_or_create("other")
        _, secret = await uow.keys.create(other, "stranger", Role.ADMIN)
    async with client_of(api.app, secret) as stranger:
        assert (await stranger.get(ROLLOUTS)).json()["data"] == []
        for request in ("pause", "resume", "promote", "abort", "rollback"):
            asked = await stranger.post(f"{ROLLOUTS}/{rollout['id']}/{request}")
            assert (request, asked.status_code, slug(asked)) == (request, 404, "unknown-rollout")
        for path in ("", "/traffic"):
            assert (path, (await stranger.get(f"{ROLLOUTS}/{rollout['id']}{path}")).status_code) == (path, 404)
        for path in ("/releases", "/history", "/at?time=2030-01-01T00:00:00Z", "/diff?from=1&to=1", "/capture"):
            seen = await stranger.get(f"/api/v1/deployments/bard{path}")
            assert (path, seen.status_code, slug(seen)) == (path, 404, "unknown-deployment")
        back = await stranger.post("/api/v1/deployments/bard/rollback", json={"release": 1})
        assert (back.status_code, slug(back)) == (404, "unknown-deployment")
    assert (await shown(api, rollout)).state == "pending"


BAD: list[tuple[dict[str, Any], str]] = [
    ({"strategy": {"name": "canary", "steps": [{"percent": 10}, {"percent": 50}]}}, "100 percent, not 50"),
    ({"strategy": {"name": "canary", "steps": [{"percent": 50}, {"percent": 10}, {"percent": 100}]}}, "must grow"),
    ({"strategy": {"name": "sudden"}}, "sudden"),
    ({"strategy": {"name": "ab", "sticky_by": "header"}}, "header"),
    ({"strategy": {"name": "immediate", "max_surge": 0, "max_unavailable": 0}}, "no replica could ever be replaced"),
    ({"servers": ["ftp://10.0.0.1"]}, "servers"),
    ({"scaling": {"min_replicas": 3, "max_replicas": 2}}, "min_replicas is 3"),
    ({"replicas": 5, "scaling": {"max_replicas": 2}}, "replicas 5"),
    ({"watch_s": -1}, "watch_s"),
    ({"note": "x" * 501}, "note"),
]


async def test_a_bad_rollout_is_refused_by_name(api: Api) -> None:
    await api.make_master()
    for changes, words in BAD:
        answer = await api[Role.OPERATOR].post(ROLLOUTS, json=spec(**changes))
        assert (changes, answer.status_code, slug(answer)) == (changes, 422, "invalid-input")
        assert words in answer.text, answer.text
    assert (await api[Role.VIEWER].get(ROLLOUTS)).json()["data"] == []


async def test_two_rollouts_of_one_deployment_are_one_too_many(api: Api) -> None:
    await api.make_master()
    rollout = await create(api)
    second = await api[Role.OPERATOR].post(ROLLOUTS, json=spec())
    assert (second.status_code, slug(second)) == (409, "rollout-in-progress")
    assert rollout["id"] in second.json()["detail"]


async def test_traffic_is_told_and_shown(api: Api) -> None:
    await api.make_master()
    first = await create(api)
    await promote(api, first)
    rollout = await create(api, strategy=CANARY)
    path = f"{ROLLOUTS}/{rollout['id']}/traffic"
    assert (await api[Role.VIEWER].get(path)).json()["since"] is None
    exposed = await expose(api, rollout)
    assert exposed.exposed_at is not None
    began_at = exposed.exposed_at + timedelta(seconds=1)
    windows = [
        TrafficWindow(release_id=id_, began_at=began_at, ended_at=began_at + timedelta(seconds=1), tally=Tally(num_answered=number))
        for id_, number in ((first["to_release_id"], 9), (rollout["to_release_id"], 1))
    ]
    report = TrafficReport(gateway_id="gw_1", sequence=1, windows=windows).model_dump(mode="json")
    for _ in range(2):
        assert (await api[Role.GATEWAY].post("/internal/v1/traffic", json=report)).status_code == 204
    evidence = (await api[Role.VIEWER].get(path)).json()
    assert (evidence["stable"]["num_answered"], evidence["candidate"]["num_answered"]) == (9, 1)
    assert datetime.fromisoformat(evidence["since"]) == exposed.exposed_at
    bad = await api[Role.GATEWAY].post("/internal/v1/traffic", json={**report, "sequence": 0})
    assert (bad.status_code, slug(bad)) == (422, "invalid-input")


async def test_the_way_back(api: Api) -> None:
    await api.make_master()
    first = await create(api)
    await promote(api, first)
    async with api.database.begin() as uow:
        await upsert_replica(uow, replica(first["to_release_id"]))
    await promote(api, await create(api))
    deployment = "/api/v1/deployments/bard"
    assert [one["number"] for one in (await api[Role.VIEWER].get(f"{deployment}/releases")).json()["data"]] == [2, 1]
    for _ in range(2):
        back = await api[Role.OPERATOR].post(f"{deployment}/rollback", json={"release": 1, "note": "rhymes"})
        assert (back.status_code, back.json()["current_release"]["number"]) == (200, 1)
    for body, status, kind in (
        ({"release": 9}, 404, "unknown-release"),
        ({"release": 0}, 422, "invalid-input"),
        ({"release": 10**12}, 404, "unknown-release"),
        (None, 409, "conflict"),
    ):
        refused = await api[Role.OPERATOR].post(f"{deployment}/rollback", json=body)
        assert (body, refused.status_code, slug(refused)) == (body, status, kind)
    missing = await api[Role.OPERATOR].post("/api/v1/deployments/nothing/rollback")
    assert (missing.status_code, slug(missing)) == (404, "unknown-deployment")
    assert "deployment.rollback" in await actions(api)


async def test_what_served_when_and_why(api: Api) -> None:
    await api.make_master()
    await promote(api, await create(api, note="first"))
    await promote(api, await create(api, engine={"max_num_seqs": 32}))
    path = "/api/v1/deployments/bard"
    history = (await api[Role.VIEWER].get(f"{path}/history")).json()["data"]
    assert [(one["cause"], one["note"], one["shares"][0]["release_number"]) for one in history] == [
        ("promoted", None, 2),
        ("promoted", "first", 1),
    ]
    assert history[1]["ended_at"] == history[0]["began_at"]
    began_at = history[1]["began_at"]
    assert (await api[Role.VIEWER].get(f"{path}/at", params={"time": began_at})).json() == history[1]
    early = await api[Role.VIEWER].get(f"{path}/at", params={"time": "2020-01-01T00:00:00Z"})
    assert (early.status_code, slug(early)) == (404, "not-found")
    for time in ("yesterday", "2026-01-01T00:00:00", "", "20261123120000", "1795435200"):
        bad = await api[Role.VIEWER].get(f"{path}/at", params={"time": time})
        assert (time, bad.status_code, slug(bad)) == (time, 422, "invalid-input")
    now = datetime.now(UTC).isoformat()
    for left, right in (("1", "2"), (began_at, now), ("1", now)):
        diff = (await api[Role.VIEWER].get(f"{path}/diff", params={"from": left, "to": right})).json()
        assert diff["config"] == [{"key": "engine.max_num_seqs", "left": 16, "right": 32}]
        assert (diff["left"]["release"]["number"], diff["right"]["release"]["number"]) == (1, 2)
        assert diff["versions"]["relation"] == "same"
    for left, status in (("9", 404), ("soon", 422), ("4000000000", 422), ("2020-01-01T00:00:00Z", 404)):
        refused = await api[Role.VIEWER].get(f"{path}/diff", params={"from": left, "to": "1"})
        assert (left, refused.status_code) == (left, status)
        assert slug(refused)


async def test_a_key_may_have_limits(api: Api) -> None:
    limits = {"requests_per_minute": 60, "tokens_per_minute": None}
    made = await api[Role.ADMIN].post("/api/v1/keys", json={"name": "app", "role": "viewer", "limits": limits})
    assert (made.status_code, made.json()["key"]["limits"]) == (201, limits)
    routed = {key["key_id"]: key["limits"] for key in (await api[Role.GATEWAY].get("/internal/v1/routes")).json()["keys"]}
    assert routed[made.json()["key"]["id"]] == limits
    assert sum(value["requests_per_minute"] is not None for value in routed.values()) == 1
    bad = await api[Role.ADMIN].post("/api/v1/keys", json={"name": "app", "role": "viewer", "limits": {"requests_per_minute": 0}})
    assert (bad.status_code, slug(bad)) == (422, "invalid-input")
