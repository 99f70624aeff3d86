"""Every route there is, asked by every kind of caller: the table of permissions is what holds, and nobody learns of others' things."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from factories.access_world import MARK, World, identity_of, ids_in, is_registrys
from factories.store import import_spec
from quantry_core.jobs import EngineConfig
from quantry_core.permissions import PERMISSIONS, Access, allows
from quantry_core.uploads import Upload
from quantry_store.transactions import attach_adapter, begin_rollout, promote_rollout

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOBODY = f"{'0' * 32}"
NOT_THERE = {
    "job_id": f"job_{NOBODY}",
    "pipeline_id": f"pip_{NOBODY}",
    "schedule_id": f"sch_{NOBODY}",
    "rollout_id": f"rol_{NOBODY}",
    "worker_id": f"wrk_{NOBODY}",
    "host_id": f"wkh_{NOBODY}",
    "enrolment_id": f"enr_{NOBODY}",
    "key_id": f"key_{NOBODY}",
    "webhook_id": f"whk_{NOBODY}",
    "delivery_id": f"dlv_{NOBODY}",
    "version_id": f"ver_{NOBODY}",
    "dataset_id": f"dat_{NOBODY}",
    "file_id": f"dat_{NOBODY}",
    "upload_id": f"upl_{NOBODY}",
    "run_id": f"vrn_{NOBODY}",
    "project": f"prj_{NOBODY}",
    "ref": f"ver_{NOBODY}",
    "name": "nothing",
    "adapter": "nothing",
    "alias": "nothing",
    "method": "gptq",
    "queue": "cpu",
    "step": "1",
    "path": "config.json",
}
OWN_NAMESPACE = {
    ("PUT", "/api/v1/datasets/{name}"),
    ("POST", "/api/v1/datasets/{name}/derive"),
    ("POST", "/api/v1/jobs"),
    ("GET", "/api/v1/methods/{method}"),
}
"""Addresses whose names are the caller's own, or nobody's: the same name in another project is another thing."""
PARAMETERS = {
    "/api/v1/deployments/{name}/at": {"time": "2099-01-01T00:00:00Z"},
    "/api/v1/deployments/{name}/diff": {"from": "1", "to": "1"},
    "/api/v1/versions/compare": {"left": f"ver_{NOBODY}", "right": f"ver_{NOBODY}"},
}
BODIES: dict[tuple[str, str], dict[str, object]] = {
    ("PATCH", "/api/v1/schedules/{schedule_id}"): {"is_paused": True},
    ("PATCH", "/api/v1/models/{name}/notes"): {"notes": "mine"},
    ("PATCH", "/api/v1/versions/{ref}/notes"): {"notes": "mine"},
    ("PATCH", "/api/v1/webhooks/{webhook_id}"): {"is_active": False},
    ("POST", "/api/v1/webhooks/{webhook_id}/rotate-secret"): {},
    ("PUT", "/api/v1/models/{name}/aliases/{alias}"): {"version_id": f"ver_{NOBODY}"},
    ("PUT", "/api/v1/deployments/{name}/capture"): {"percent": 5},
    ("PUT", "/api/v1/deployments/{name}/adapters/{adapter}"): {"version": "zebra@1"},
    ("POST", "/api/v1/deployments/{name}/capture/dataset"): {"name": "mine"},
}


def routes_of(app: FastAPI) -> set[tuple[str, str]]:
    routes = ((method, route) for route in iter_route_contexts(app.routes) for method in route.methods or ())
    return {(method, str(route.path_format)) for method, route in routes if (method, route.name) != ("HEAD", "openapi")}


async def test_the_table_has_every_route_and_no_other(world: World) -> None:
    assert routes_of(world.api) | routes_of(world.registry) == set(PERMISSIONS)


async def test_every_identity_gets_through_the_doors_of_the_table_alone(world: World) -> None:
    """Ids of nothing and bodies of nonsense: who may not is told so before, whoever may gets no further than that."""
    identities = ["none", "garbage", "revoked", "expired", "stranger", "viewer", "operator", "admin", "worker", "gateway", "platform"]
    wrong = []
    for (method, template), need in PERMISSIONS.items():
        body = {"json": {"nonsense": True}} if method in {"POST", "PATCH", "PUT"} else {}
        for name in identities:
            answer = await world.ask(name, method, template, NOT_THERE, **body)
            identity = identity_of(world, name)
            if need is Access.ANYONE:
                is_right = answer.status_code not in {401, 403}
            elif identity is None:
                is_right = answer.status_code == 401
            elif not allows(need, identity):
                is_right = answer.status_code == 403
            else:
                is_right = answer.status_code not in {401, 403}
            if not is_right or answer.status_code >= 500:
                wrong.append((method, template, name, answer.status_code))
    assert wrong == []


async def test_an_expired_key_is_told_so_in_its_own_words(world: World) -> None:
    ours = await world.ask("expired", "GET", "/api/v1/whoami", {})
    assert (ours.status_code, ours.json()["type"]) == (401, "urn:quantry:problem:key-expired")
    openais = await world.ask("expired", "GET", "/v1/files", {})
    assert (openais.status_code, openais.json()["error"]["code"]) == (401, "expired_api_key")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def things(world: World) -> dict[str, str]:
    """Ids and names of one thing of each kind in the owner's project."""
    owner = world.owner
    master = await owner.master(MARK, "zebra weights")
    put = await world.ask("operator", "PUT", "/api/v1/datasets/{name}", {"name": f"{MARK}-text"}, content=b"some zebra words " * 200)
    assert put.is_success, put.text
    dataset_id = put.json()["id"]
    rollout = await owner.rollout(master, f"{MARK}-chat", engine=EngineConfig(max_adapters=2, max_adapter_rank=16))
    async with world.database.begin() as uow:
        await begin_rollout(uow, rollout.id)
    async with world.database.begin() as uow:
        await promote_rollout(uow, rollout.id)
    adapter = await owner.adapter(master, "zebra adapter", suffix="stripes")
    async with world.database.begin() as uow:
        await attach_adapter(uow, owner.admin, f"{MARK}-chat", f"{MARK}-adapter", adapter.id)
        upload: Upload = await uow.uploads.create(owner.admin, lifetime_s=3600)
    job = await owner.submit(import_spec(f"{MARK}-2"))
    template = {"kind": "job", "submission": {"spec": {"type": "evaluate", "version": MARK, "corpora": [f"{MARK}-text"]}}}
    made: dict[str, str] = {}
    posts: dict[str, tuple[str, dict[str, object]]] = {
        "schedule_id": ("/api/v1/schedules", {"name": f"{MARK}-nightly", "cron": "0 0 1 1 *", "template": template}),
        "pipeline_id": ("/api/v1/pipelines", {"name": f"{MARK}-pipe", "steps": {"fetch": template["submission"]}}),
        "run_id": ("/api/v1/vault/verify", {"version": MARK}),
    }
    for name, (path, body) in posts.items():
        answer = await world.ask("admin", "POST", path, {}, json=body)
        assert answer.is_success, answer.text
        made[name] = answer.json()["id"]
    hook = {"name": f"{MARK}-hook", "url": "https://zebra.example/in", "events": ["job.succeeded"]}
    answer = await world.ask("operator", "POST", "/api/v1/webhooks", {}, json=hook)
    assert answer.is_success, answer.text
    webhook_id = answer.json()["webhook"]["id"]
    moved = await world.ask(
        "operator", "PUT", "/api/v1/models/{name}/aliases/{alias}", {"name": MARK, "alias": "production"}, json={"version_id": master.id}
    )
    assert moved.is_success, moved.text
    keys = (await world.ask("admin", "GET", "/api/v1/keys", {})).json()["data"]
    return NOT_THERE | {
        **made,
        "webhook_id": webhook_id,
        "job_id": job.id,
        "rollout_id": rollout.id,
        "key_id": keys[0]["id"],
        "version_id": master.id,
        "dataset_id": dataset_id,
        "file_id": dataset_id,
        "upload_id": upload.id,
        "project": owner.project_id,
        "ref": master.id,
        "name": f"{MARK}-chat",
        "adapter": f"{MARK}-adapter",
        "alias": "production",
    }


def named(template: str, things: dict[str, str]) -> dict[str, str]:
    """Returns the things with the name that an address means: of a model, a dataset or a deployment."""
    if "/models/" in template:
        return things | {"name": MARK}
    return things | {"ref": f"{MARK}-text"} if "/datasets/" in template else things


async def test_a_stranger_finds_nothing_of_another_project(world: World, things: dict[str, str]) -> None:
    """Things of others are not there: 404 and never 403, whatever is asked of them; lists have none of them."""
    before = await world.acts()
    ids = set(things.values()) | {MARK}
    leaks, wrong = [], []
    for door, need in PERMISSIONS.items():
        method, template = door
        if not allows(need, world.stranger.admin) or door in OWN_NAMESPACE or need is Access.ANYONE:
            continue
        is_about_one = "{" in template
        if not is_about_one and method != "GET":
            continue
        body: dict[str, Any] = {"json": BODIES.get(door, {})} if method in {"PATCH", "PUT"} or door in BODIES else {}
        if method == "PUT" and "/files/" in template:
            body = {"content": b"bytes"}
        answer = await world.ask("stranger", method, template, named(template, things), params=PARAMETERS.get(template), **body)
        if is_about_one and answer.status_code != 404:
            wrong.append(f"{method} {template}: {answer.status_code}")
        asked = template.format(**named(template, things))
        told = answer.text.replace(asked, "")
        if not is_about_one and any(one in told for one in ids if one not in NOT_THERE.values()):
            leaks.append((method, template, told[:300]))
    assert wrong == []
    assert leaks == []
    assert await world.acts() == before, "a stranger changed something"


async def test_the_owner_finds_what_the_stranger_does_not(world: World, things: dict[str, str]) -> None:
    """Without this the test before would pass where nothing is there at all."""
    missing = []
    not_made = {"{path}", "{delivery_id}", "{step}", "{worker_id}", "{method}"}
    for method, template in PERMISSIONS:
        if method != "GET" or "{" not in template or any(name in template for name in not_made):
            continue
        if not allows(PERMISSIONS[method, template], world.owner.admin) or "/fine_tuning/" in template or template.endswith("/events"):
            continue
        answer = await world.ask("admin", method, template, named(template, things), params=PARAMETERS.get(template))
        if answer.status_code in {401, 403, 404} and not (template.endswith("/content") or "capture" in template):
            missing.append((template, answer.status_code, answer.text[:200]))
    assert missing == []


async def test_a_job_of_anothers_cannot_be_named_in_a_submission(world: World, things: dict[str, str]) -> None:
    """What a body refers to is looked up in the caller's project too."""
    refused: dict[str, list[dict[str, Any]]] = {
        "/api/v1/jobs": [
            {"spec": {"type": "evaluate", "version": things["version_id"], "corpora": [things["dataset_id"]]}},
            {"spec": {"type": "import", "model": "mine", "source": f"upload://{things['upload_id']}"}},
            {"spec": {"type": "import", "model": "mine", "source": str(world.root)}, "needs": [things["job_id"]]},
        ],
        "/api/v1/vault/verify": [{"version": things["version_id"]}],
        "/v1/fine_tuning/jobs": [{"model": things["version_id"], "training_file": things["file_id"]}],
    }
    for path, bodies in refused.items():
        for body in bodies:
            answer = await world.ask("stranger", "POST", path, {}, json=body)
            assert answer.status_code in {400, 404, 422}, (path, body, answer.status_code, answer.text)
            assert MARK not in answer.text
            assert ids_in(answer.json()) <= set(str(body).replace("'", " ").replace("/", " ").split()), answer.text


async def test_the_registry_and_the_api_answer_different_addresses(world: World) -> None:
    both = routes_of(world.api) & routes_of(world.registry)
    assert both == {("GET", path) for path in ("/healthz", "/livez", "/metrics")}
    assert is_registrys(world, "/api/v1/uploads")
