"""Jobs from submission to their last event."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import fastapi.routing
import httpx
import pytest
import redis

from factories.checkpoints import master_contents, write_checkpoint
from quantry_api.jobs import stream
from quantry_core.keys import Role

from .conftest import Api, slug, until


async def test_a_submitted_job_is_queued_audited_and_wakes_its_queue(api: Api, redis_url: str) -> None:
    job = await api.submit_import()
    assert (job["status"], job["queue"], job["attempt"], job["type"]) == ("queued", "cpu", 0, "import")
    assert await api.show(job) == job
    entry = (await api[Role.ADMIN].get("/api/v1/audit")).json()["data"][0]
    assert (entry["action"], entry["noun_id"], entry["role"]) == ("job.submit", job["id"], "operator")
    with redis.Redis.from_url(redis_url) as client:

        async def has_arrived() -> bool:
            return bool(client.llen("cpu") == 1)

        await until(has_arrived)
        (message,) = client.lrange("cpu", 0, -1)
    envelope = json.loads(message)
    assert envelope["headers"]["task"] == "quantry.wake"
    # A worker whose clock is ahead would throw it away, and with it the work of all.
    assert envelope["headers"]["expires"] is None


async def test_a_lost_broker_does_not_fail_the_submission(api: Api, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.execute_command("CLIENT", "PAUSE", 1500, "ALL")
    started = asyncio.get_running_loop().time()
    job = await api.submit_import()
    assert asyncio.get_running_loop().time() - started < 3
    assert job["status"] == "queued"


async def test_pages_walk_through_every_job_once(api: Api) -> None:
    made = [(await api.submit_import(f"bard-{number}"))["id"] for number in range(5)]
    seen: list[str] = []
    query = "limit=2"
    while True:
        page = (await api[Role.VIEWER].get(f"/api/v1/jobs?{query}")).json()
        seen += [job["id"] for job in page["data"]]
        assert page["last_id"] == seen[-1]
        if not page["has_more"]:
            break
        query = f"limit=2&after={page['last_id']}"
    assert seen == made[::-1]


async def test_lists_can_be_narrowed(api: Api) -> None:
    first = await api.submit_import()
    await api.submit_import("other")
    await api[Role.OPERATOR].post(f"/api/v1/jobs/{first['id']}/cancel")
    cancelled = (await api[Role.VIEWER].get("/api/v1/jobs?status=cancelled&type=import")).json()["data"]
    assert [job["id"] for job in cancelled] == [first["id"]]
    assert (await api[Role.VIEWER].get("/api/v1/jobs?type=deploy")).json()["data"] == []
    assert (await api[Role.VIEWER].get(f"/api/v1/jobs?uses=dat_{'0' * 32}")).json()["data"] == []
    wrong = await api[Role.VIEWER].get("/api/v1/jobs?status=lost&limit=0&uses=bard")
    assert (wrong.status_code, slug(wrong)) == (422, "invalid-input")
    assert {error["field"] for error in wrong.json()["errors"]} == {"status", "limit", "uses"}


async def test_lists_can_be_narrowed_by_labels_and_queue(api: Api) -> None:
    source = str(write_checkpoint(api.roots / "bard", master_contents()))
    spec = {"type": "import", "model": "bard", "source": source}
    bodies = [{"spec": spec, "labels": {"team": "search"}}, {"spec": spec, "labels": {"team": "ads"}, "queue": "gpu"}]
    search, ads = [(await api[Role.OPERATOR].post("/api/v1/jobs", json=body)).json()["id"] for body in bodies]
    for query, expected in (
        ("labels=team%3Dsearch", [search]),
        ("labels=team", [ads, search]),
        ("queue=gpu", [ads]),
        ("pipeline_id=x", []),
    ):
        page = (await api[Role.VIEWER].get(f"/api/v1/jobs?{query}")).json()
        assert (query, [job["id"] for job in page["data"]]) == (query, expected)
    for query in ("labels=", "labels=te%20am%3Dx", "labels=a%3D%2Fb", "queue=tpu", "labels=nul%00"):
        wrong = await api[Role.VIEWER].get(f"/api/v1/jobs?{query}")
        assert (query, wrong.status_code, slug(wrong)) == (query, 422, "invalid-input")


async def test_a_job_is_tried_again_once_it_was_cancelled(api: Api) -> None:
    job = await api.submit_import()
    path = f"/api/v1/jobs/{job['id']}"
    early = await api[Role.OPERATOR].post(f"{path}/retry")
    assert (early.status_code, slug(early)) == (409, "conflict")
    await api[Role.OPERATOR].post(f"{path}/cancel")
    headers = {"Idempotency-Key": "again"}
    first, second = [await api[Role.OPERATOR].post(f"{path}/retry", headers=headers) for _ in range(2)]
    assert (first.status_code, first.json()["status"], first.json()["retry_of"]) == (201, "queued", job["id"])
    assert (second.status_code, second.json()) == (201, first.json())
    lease = await api.claim()
    assert lease is not None
    assert lease["job"]["id"] == first.json()["id"]


async def test_cancelling_a_queued_job_ends_it_and_again_changes_nothing(api: Api) -> None:
    job = await api.submit_import()
    first = await api[Role.OPERATOR].post(f"/api/v1/jobs/{job['id']}/cancel")
    assert (first.status_code, first.json()["status"], first.json()["reason"]) == (200, "cancelled", "cancelled")
    assert (await api[Role.OPERATOR].post(f"/api/v1/jobs/{job['id']}/cancel")).json() == first.json()
    assert await api.claim() is None


async def test_cancelling_a_running_job_is_a_flag_its_worker_sees(api: Api) -> None:
    job = await api.submit_import()
    lease = await api.claim()
    assert lease is not None
    assert (await api.execute(lease, "heartbeat")).json()["cancel_requested"] is False
    cancelled = (await api[Role.OPERATOR].post(f"/api/v1/jobs/{job['id']}/cancel")).json()
    assert (cancelled["status"], cancelled["cancel_requested"]) == ("running", True)
    assert (await api.execute(lease, "heartbeat")).json()["cancel_requested"] is True
    finished = await api.execute(lease, "finish", outcome="cancelled", reason="cancelled")
    assert (finished.json()["status"], finished.json()["reason"]) == ("cancelled", "cancelled")


def parse(text: str) -> list[dict[str, str]]:
    """Returns the fields of each event of a stream; comments are left out."""
    events = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            events.append(fields)
    return events


async def watch(api: Api, job: dict[str, Any], headers: dict[str, str] | None = None, query: str = "") -> httpx.Response:
    return await api[Role.VIEWER].get(f"/api/v1/jobs/{job['id']}/events{query}", headers=headers)


async def test_a_stream_replays_the_past_follows_the_present_and_ends(api: Api) -> None:
    job = await api.submit_import()
    watching = asyncio.create_task(watch(api, job))
    lease = await api.claim()
    assert lease is not None
    await api.execute(lease, "events", offset=0, events=[{"kind": "log", "data": {"text": "line"}}])
    await asyncio.sleep(2 * stream.POLL_INTERVAL_S)
    assert not watching.done()
    await api.execute(lease, "finish", outcome="failed", reason="diverged", message="it broke")
    response = await asyncio.wait_for(watching, 5)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = parse(response.text)
    assert [event["id"] for event in events] == [str(number + 1) for number in range(len(events))]
    assert [event["event"] for event in events] == ["state", "state", "log", "state"]
    last = json.loads(events[-1]["data"])
    assert last["data"] == {"status": "failed", "reason": "diverged", "message": "it broke"}
    assert last["job_id"] == job["id"]


async def test_a_broken_stream_is_taken_up_where_it_broke(api: Api) -> None:
    job = await api.submit_import()
    lease = await api.claim()
    assert lease is not None
    await api.execute(lease, "finish", outcome="failed", reason="diverged")
    everything = parse((await watch(api, job)).text)
    assert len(everything) == 3
    assert parse((await watch(api, job, {"Last-Event-ID": "1"})).text) == everything[1:]
    assert parse((await watch(api, job, query="?after=2")).text) == everything[2:]
    assert parse((await watch(api, job, {"Last-Event-ID": "2"}, "?after=0")).text) == everything[2:]
    assert parse((await watch(api, job, {"Last-Event-ID": "3"})).text) == []
    for ahead, field in (
        (await watch(api, job, {"Last-Event-ID": "4"}), "last-event-id"),
        (await watch(api, job, query="?after=9"), "after"),
    ):
        assert (ahead.status_code, slug(ahead)) == (422, "invalid-input")
        assert [error["field"] for error in ahead.json()["errors"]] == [field]
        assert "whose last event is 3" in ahead.json()["detail"]
    wrong = await watch(api, job, {"Last-Event-ID": "x"})
    assert (wrong.status_code, slug(wrong)) == (422, "invalid-input")


async def test_a_long_stream_arrives_whole(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_EVENTS_PER_READ", 7)
    job = await api.submit_import()
    lease = await api.claim()
    assert lease is not None
    await api.execute(lease, "events", offset=0, events=[{"kind": "log", "data": {"text": f"line {number}"}} for number in range(40)])
    await api.execute(lease, "finish", outcome="failed", reason="diverged")
    assert len(parse((await watch(api, job)).text)) == 43


async def test_a_stream_of_some_kinds_leaves_the_others_out(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_EVENTS_PER_READ", 2)
    job = await api.submit_import()
    watching = asyncio.create_task(watch(api, job, query="?kind=log&kind=note"))
    lease = await api.claim()
    assert lease is not None
    lines = [{"kind": kind, "data": {"text": kind, "phase": kind, "fraction": 0.5}} for kind in ("log", "progress", "note", "log")]
    await api.execute(lease, "events", offset=0, events=lines)
    await api.execute(lease, "finish", outcome="failed", reason="diverged")
    events = parse((await asyncio.wait_for(watching, 10)).text)
    assert [event["event"] for event in events] == ["log", "note", "log"]
    states = parse((await watch(api, job, query="?kind=state&after=1")).text)
    assert [json.loads(event["data"])["data"]["status"] for event in states] == ["running", "failed"]
    wrong = await watch(api, job, query="?kind=gossip")
    assert (wrong.status_code, slug(wrong)) == (422, "invalid-input")


async def test_a_quiet_stream_is_kept_alive(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.05)
    job = await api.submit_import()
    watching = asyncio.create_task(watch(api, job))
    await asyncio.sleep(0.4)
    await api[Role.OPERATOR].post(f"/api/v1/jobs/{job['id']}/cancel")
    assert ": ping" in (await asyncio.wait_for(watching, 5)).text


async def test_a_stream_ends_when_its_reader_leaves(api: Api) -> None:
    job = await api.submit_import()
    left = asyncio.Event()
    sent: list[dict[str, Any]] = []

    to_receive = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if to_receive:
            return to_receive.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)
        if message["type"] == "http.response.body" and message.get("body"):
            left.set()

    authorization = api[Role.VIEWER].headers["authorization"].encode()
    path = f"/api/v1/jobs/{job['id']}/events"
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"authorization", authorization)],
        "client": ("test", 1),
        "server": ("api", 80),
    }
    await asyncio.wait_for(api.app(scope, receive, send), 5)
    assert sent[0]["status"] == 200
    assert (await api.show(job))["status"] == "queued"


async def test_a_stream_ends_when_its_key_is_revoked(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "RECHECK_KEY_S", 0.0)
    job = await api.submit_import()
    watching = asyncio.create_task(watch(api, job))
    await asyncio.sleep(2 * stream.POLL_INTERVAL_S)
    assert not watching.done()
    viewer = (await api[Role.VIEWER].get("/api/v1/whoami")).json()["key_id"]
    await api[Role.ADMIN].delete(f"/api/v1/keys/{viewer}")
    assert [event["event"] for event in parse((await asyncio.wait_for(watching, 5)).text)] == ["state"]


async def test_the_log_is_plain_text_by_attempt(api: Api) -> None:
    job = await api.submit_import()
    for line in ("first try", "second try"):
        lease = await api.claim()
        assert lease is not None
        await api.execute(
            lease, "events", offset=0, events=[{"kind": "log", "data": {"text": line}}, {"kind": "note", "data": {"text": "no log"}}]
        )
        await api.execute(lease, "finish", outcome="released", reason="worker_lost")
    response = await api[Role.VIEWER].get(f"/api/v1/jobs/{job['id']}/log")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text == "--- attempt 1 ---\nfirst try\n--- attempt 2 ---\nsecond try\n"
    second = await api[Role.VIEWER].get(f"/api/v1/jobs/{job['id']}/log?attempt=2")
    assert second.text == "--- attempt 2 ---\nsecond try\n"
    assert (await api[Role.VIEWER].get(f"/api/v1/jobs/{job['id']}/log?tail=1")).text == second.text
    wrong = await api[Role.VIEWER].get(f"/api/v1/jobs/{job['id']}/log?tail=0")
    assert (wrong.status_code, slug(wrong)) == (422, "invalid-input")
