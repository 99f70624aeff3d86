"""Keys that expire, rotate and are noted as used; projects made and archived; hosts enrolled once; clients that ask too often."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from factories.access_world import World
from factories.checkpoints import master_contents, write_checkpoint
from quantry_core.keys import hash_key
from quantry_http.limits import RequestLimits
from quantry_http.settings import HttpSettings
from quantry_worker.enrol import EnrolmentFailed, enrol, rotate

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def status_of(world: World, secret: str) -> int:
    world.secrets["asked"] = secret
    return (await world.ask("asked", "GET", "/api/v1/whoami", {})).status_code


async def test_a_rotated_key_keeps_its_id_and_loses_its_old_secret(world: World) -> None:
    made = (await world.ask("admin", "POST", "/api/v1/keys", {}, json={"name": "ci", "role": "viewer"})).json()
    path, ids = "/api/v1/keys/{key_id}/rotate", {"key_id": made["key"]["id"]}
    second = (await world.ask("admin", "POST", path, ids, json={"overlap_s": 600})).json()
    assert second["key"]["id"] == made["key"]["id"]
    assert [await status_of(world, secret) for secret in (made["secret"], second["secret"])] == [200, 200]
    async with world.database.begin() as uow:
        routed = {key.key_hash: key for key in await uow.keys.snapshot() if key.key_id == made["key"]["id"]}
    assert set(routed) == {hash_key(made["secret"]), hash_key(second["secret"])}
    assert routed[hash_key(made["secret"])].expires_at == datetime.fromisoformat(second["key"]["old_secret_until"])
    assert routed[hash_key(second["secret"])].expires_at is None
    third = (await world.ask("admin", "POST", path, ids)).json()
    secrets = (made["secret"], second["secret"], third["secret"])
    assert [await status_of(world, secret) for secret in secrets] == [401, 401, 200]
    await world.ask("admin", "DELETE", "/api/v1/keys/{key_id}", ids)
    assert (await world.ask("admin", "POST", path, ids)).status_code == 409


async def test_a_key_holds_until_it_expires(world: World) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    body = {"name": "guest", "role": "viewer", "expires_at": soon.isoformat()}
    made = (await world.ask("admin", "POST", "/api/v1/keys", {}, json=body)).json()
    assert datetime.fromisoformat(made["key"]["expires_at"]) == soon
    assert await status_of(world, made["secret"]) == 200
    await world.owner.sql("update api_keys set expires_at = now() where id = %s", made["key"]["id"])
    assert await status_of(world, made["secret"]) == 401
    ids = {"key_id": made["key"]["id"]}
    assert (await world.ask("admin", "POST", "/api/v1/keys/{key_id}/rotate", ids)).status_code == 409
    later = {"expires_at": (soon + timedelta(days=1)).isoformat()}
    renewed = (await world.ask("admin", "POST", "/api/v1/keys/{key_id}/rotate", ids, json=later)).json()
    assert await status_of(world, renewed["secret"]) == 200
    for moment in ("2020-01-01T00:00:00Z", "2027-01-01T00:00:00", "soon"):
        refused = await world.ask("admin", "POST", "/api/v1/keys", {}, json=body | {"expires_at": moment})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "expires_at")


async def test_a_project_keeps_an_admin_and_nobody_is_given_a_machines_secret(world: World) -> None:
    made = (await world.ask("platform", "POST", "/api/v1/projects", {}, json={"name": "alone"})).json()["admin_key"]
    world.secrets["alone"] = made["secret"]
    path, own = "/api/v1/keys/{key_id}", {"key_id": made["key"]["id"]}
    refused = await world.ask("alone", "DELETE", path, own)
    assert (refused.status_code, "last admin's key" in refused.json()["detail"]) == (409, True)
    second = (await world.ask("alone", "POST", "/api/v1/keys", {}, json={"name": "second", "role": "admin"})).json()
    world.secrets["second"] = second["secret"]
    both = [("alone", second["key"]["id"]), ("second", own["key_id"])]
    answers = await asyncio.gather(*(world.ask(who, "DELETE", path, {"key_id": key_id}) for who, key_id in both))
    assert sorted(answer.status_code for answer in answers) in ([204, 401], [204, 409])
    keys = (await world.ask("platform", "GET", "/api/v1/keys", {}, params={"limit": 100})).json()["data"]
    for role in ("worker", "gateway"):
        machine = next(key["id"] for key in keys if key["role"] == role and key["revoked_at"] is None)
        assert (await world.ask("platform", "POST", "/api/v1/keys/{key_id}/rotate", {"key_id": machine})).status_code == 409


async def test_a_use_is_noted_once_in_some_minutes(world: World) -> None:
    made = (await world.ask("admin", "POST", "/api/v1/keys", {}, json={"name": "used", "role": "viewer"})).json()
    key_id = made["key"]["id"]

    async def last_used() -> datetime | None:
        ((moment,),) = await world.owner.sql("select last_used_at from api_keys where id = %s", key_id)
        assert moment is None or isinstance(moment, datetime)
        return moment

    assert await last_used() is None
    await status_of(world, made["secret"])
    first = await last_used()
    assert first is not None
    await status_of(world, made["secret"])
    assert await last_used() == first
    await world.owner.sql("update api_keys set last_used_at = now() - interval '1 hour' where id = %s", key_id)
    report = {"gateway_id": "gw_1", "sequence": 1, "key_ids": [key_id]}
    assert (await world.ask("gateway", "POST", "/internal/v1/traffic", {}, json=report)).status_code == 204
    noted = await last_used()
    assert noted is not None
    assert noted > first


async def test_an_archived_project_takes_no_jobs_and_shows_what_it_has(world: World) -> None:
    made = (await world.ask("platform", "POST", "/api/v1/projects", {}, json={"name": "old"})).json()
    assert (await world.ask("platform", "POST", "/api/v1/projects", {}, json={"name": "old"})).status_code == 409
    world.secrets["first"] = made["admin_key"]["secret"]
    source = str(write_checkpoint(world.root / "archived", master_contents()))
    job = {"spec": {"type": "import", "model": "old", "source": source}}
    assert (await world.ask("first", "POST", "/api/v1/jobs", {}, json=job)).status_code == 201
    changed = await world.ask("platform", "PATCH", "/api/v1/projects/{project}", {"project": "old"}, json={"is_archived": True, "share": 3})
    assert (changed.json()["archived_at"] is not None, changed.json()["limits"]["share"]) == (True, 3)
    for path, body in (("/api/v1/jobs", job), ("/api/v1/pipelines", {"name": "old", "steps": {"fetch": job}})):
        refused = await world.ask("first", "POST", path, {}, json=body)
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:quantry:problem:project-archived")
    assert len((await world.ask("first", "GET", "/api/v1/jobs", {})).json()["data"]) == 1
    opened = await world.ask("platform", "PATCH", "/api/v1/projects/{project}", {"project": "old"}, json={"is_archived": False})
    assert (opened.json()["archived_at"], opened.json()["limits"]["share"]) == (None, 3)
    assert (await world.ask("first", "POST", "/api/v1/jobs", {}, json=job | {"force": True})).status_code == 201
    own = await world.ask("platform", "PATCH", "/api/v1/projects/{project}", {"project": world.platform_id}, json={"is_archived": True})
    assert own.status_code == 409


def over_asgi(world: World) -> httpx.BaseTransport:
    """Returns a transport for code that does not wait: it asks the app in the test's own event loop."""
    loop = asyncio.get_running_loop()

    class Bridge(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            async def ask() -> httpx.Response:
                async with httpx.AsyncClient(transport=httpx.ASGITransport(world.api), base_url="http://test") as client:
                    return await client.request(request.method, request.url.path, content=request.read(), headers=request.headers)

            answer = asyncio.run_coroutine_threadsafe(ask(), loop).result(timeout=30)
            return httpx.Response(answer.status_code, content=answer.content, headers={"content-type": answer.headers["content-type"]})

    return Bridge()


async def test_a_host_enrols_once_rotates_its_own_key_and_is_revoked(world: World, tmp_path: Path) -> None:
    invited = (await world.ask("platform", "POST", "/api/v1/worker-enrolments", {}, json={"name": "gpu-1"})).json()
    transport, key_file = over_asgi(world), tmp_path / "worker-key"
    host = (await asyncio.to_thread(enrol, "http://test", invited["token"], key_file, transport=transport)).host
    first = key_file.read_text().strip()
    assert (key_file.stat().st_mode & 0o777, host.name, await status_of(world, first)) == (0o600, "gpu-1", 200)
    again = await world.ask("none", "POST", "/api/v1/enrol", {}, json={"token": invited["token"]})
    assert again.status_code == 401
    with pytest.raises(EnrolmentFailed, match="is there already"):
        await asyncio.to_thread(enrol, "http://test", "qte_x", key_file, transport=transport)
    await asyncio.to_thread(rotate, "http://test", key_file, transport=transport)
    second = key_file.read_text().strip()
    assert second != first
    assert [await status_of(world, secret) for secret in (first, second)] == [200, 200], "the old one works for some minutes"
    world.secrets["host"] = second
    hello = {"host": "rack-7", "pid": 1, "version": "1", "queues": ["cpu"], "num_slots": 1, "environments": {}}
    greeted = await world.ask("host", "PUT", "/api/v1/execution/workers/{worker_id}", {"worker_id": f"wrk_{'7' * 32}"}, json=hello)
    assert greeted.status_code == 204
    listed = (await world.ask("platform", "GET", "/api/v1/worker-hosts", {})).json()["data"][0]
    assert (listed["id"], listed["num_workers_alive"], listed["rotated_at"] is not None) == (host.id, 1, True)
    revoked = await world.ask("platform", "DELETE", "/api/v1/worker-hosts/{host_id}", {"host_id": host.id})
    assert revoked.json()["revoked_at"] is not None
    assert [await status_of(world, secret) for secret in (first, second)] == [401, 401]
    shared = await world.ask("worker", "POST", "/api/v1/execution/key/rotate", {})
    assert (shared.status_code, shared.json()["type"]) == (409, "urn:quantry:problem:conflict")


async def test_of_two_hosts_with_one_token_one_is_enrolled(world: World) -> None:
    invited = (await world.ask("platform", "POST", "/api/v1/worker-enrolments", {}, json={"name": "twice"})).json()
    body = {"token": invited["token"]}
    answers = await asyncio.gather(*(world.ask("none", "POST", "/api/v1/enrol", {}, json=body) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [201] + [401] * 7


async def test_tokens_that_are_late_withdrawn_or_invented_are_worth_nothing(world: World) -> None:
    path = "/api/v1/worker-enrolments"
    late = (await world.ask("platform", "POST", path, {}, json={"name": "late"})).json()
    await world.owner.sql("update worker_enrolments set expires_at = now() where id = %s", late["enrolment"]["id"])
    withdrawn = (await world.ask("platform", "POST", path, {}, json={"name": "withdrawn"})).json()
    ids = {"enrolment_id": withdrawn["enrolment"]["id"]}
    assert (await world.ask("platform", "DELETE", path + "/{enrolment_id}", ids)).status_code == 204
    for token in (late["token"], withdrawn["token"], "qte_nobody"):
        answer = await world.ask("none", "POST", "/api/v1/enrol", {}, json={"token": token})
        assert answer.status_code == 401


async def test_clients_that_ask_too_often_are_told_when_to_come_again(world: World) -> None:
    before = world.api.state.limits
    settings = HttpSettings(requests_per_minute=3, failed_keys_per_minute=2, enrolments_per_minute=1)
    world.api.state.limits = RequestLimits(settings)
    try:
        answers = [await world.ask("viewer", "GET", "/api/v1/project", {}) for _ in range(4)]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert 1 <= int(answers[-1].headers["retry-after"]) <= 60
        assert answers[-1].json()["type"] == "urn:quantry:problem:too-many-requests"
        wrong = [(await world.ask("garbage", "GET", "/api/v1/project", {})).status_code for _ in range(3)]
        assert wrong == [401, 401, 429]
        assert (await world.ask("viewer", "GET", "/v1/fine_tuning/jobs", {})).json()["error"]["code"] == "rate_limit_exceeded"
        assert (await world.ask("operator", "GET", "/api/v1/project", {})).status_code == 429, "never seen here, from a bad address"
        world.api.state.limits.admit_key(world.owner.admin, hash_key(world.secrets["admin"] or ""))
        assert (await world.ask("admin", "GET", "/api/v1/project", {})).status_code == 200, "known as good"
        tokens = [await world.ask("none", "POST", "/api/v1/enrol", {}, json={"token": "qte_no"}) for _ in range(2)]
        assert [answer.status_code for answer in tokens] == [401, 429]
        assert [(await world.ask("worker", "GET", "/api/v1/whoami", {})).status_code for _ in range(1)] == [429]
    finally:
        world.api.state.limits = before
