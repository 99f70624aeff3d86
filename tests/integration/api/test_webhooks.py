"""Webhooks from what happens to a receiver that listens: asked for, signed, sent again, given up, and never sent inside."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import text

from factories.hostile_addresses import LITERALS, NAMES, TRICKS
from factories.listeners import Listener, http_answer, listening
from quantry.webhooks import BadSignature, Replayed, SeenMessages, verify
from quantry_api.settings import ApiSettings
from quantry_api.webhooks.sender import WebhookSender
from quantry_core.keys import Role
from quantry_core.webhooks import SUBSCRIBABLE

from .conftest import SWEEPS_BY_HAND_S, Api, slug

PATH = "/api/v1/webhooks"
EVERYTHING = [str(event) for event in SUBSCRIBABLE]


@pytest.fixture
def receiver() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def api_settings(redis_url: str, tmp_path: Path, receiver: Listener, monkeypatch: pytest.MonkeyPatch) -> ApiSettings:
    """With a key for secrets, and one private receiver that messages may reach; nothing is sent but by hand."""
    monkeypatch.setenv("QUANTRY_OUTBOUND_PRIVATE", f"127.0.0.1:{receiver.port}")
    roots = tmp_path / "roots"
    roots.mkdir()
    return ApiSettings(
        broker_url=SecretStr(redis_url),
        import_roots=[roots],
        sweep_interval_s=SWEEPS_BY_HAND_S,
        webhook_interval_s=SWEEPS_BY_HAND_S,
        webhook_timeout_s=2.0,
        webhook_keys=SecretStr(Fernet.generate_key().decode()),
        public_url="https://quantry.example",
    )


def sender(api: Api) -> WebhookSender:
    loop: WebhookSender = api.app.state.webhooks
    return loop


async def send(api: Api) -> int:
    """Returns how many messages were sent, with all answers in."""
    num_started = await sender(api).look()
    await sender(api).finish()
    return num_started


async def create(api: Api, receiver: Listener, **changes: Any) -> tuple[str, str]:
    """Returns the id of a webhook and its secret."""
    body = {"name": "hook", "url": f"http://127.0.0.1:{receiver.port}/in?token=t0p", "events": EVERYTHING, **changes}
    made = await api[Role.OPERATOR].post(PATH, json=body)
    assert made.status_code == 201, made.text
    return made.json()["webhook"]["id"], made.json()["secret"]


def heard(request: bytes) -> tuple[dict[str, str], bytes]:
    """Returns the fields and the body of a request."""
    head, _, body = request.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in lines), body


async def make_due(api: Api) -> None:
    """Lets the time of every pause pass."""
    await run_sql(api, "update webhook_deliveries set next_attempt_at = now() where state = 'pending' and next_attempt_at is not null")


async def run_sql(api: Api, statement: str) -> None:
    """Runs a statement past everything the store does."""
    async with api.database.begin() as uow:
        await uow._session.execute(text(statement))


async def rows_of(api: Api, query: str) -> list[Any]:
    async with api.database.begin() as uow:
        return list((await uow._session.execute(text(query))).all())


async def test_the_end_of_a_job_is_told_signed_and_once(api: Api, receiver: Listener) -> None:
    webhook_id, secret = await create(api, receiver)
    job = await api.submit_import()
    await api[Role.OPERATOR].post(f"/api/v1/jobs/{job['id']}/cancel")
    assert receiver.num_connections == 0
    assert await send(api) == 1
    assert await send(api) == 0
    fields, body = heard(receiver.requests[0])
    assert fields["Host"] == f"127.0.0.1:{receiver.port}"
    seen = SeenMessages()
    message = verify(body, fields, secret, seen=seen)
    assert message.type == "job.cancelled"
    assert message.data["job_id"] == job["id"]
    assert message.data["reason"] == "cancelled"
    assert message.data["url"] == f"https://quantry.example/api/v1/jobs/{job['id']}"
    with pytest.raises(Replayed):
        verify(body, fields, secret, seen=seen)
    with pytest.raises(BadSignature, match="no signature"):
        verify(body.replace(b"cancelled", b"succeeded"), fields, secret)
    with pytest.raises(BadSignature, match="ago"):
        verify(body, fields, secret, now_s=time.time() + 301)

    shown = (await api[Role.VIEWER].get(f"{PATH}/{webhook_id}")).json()
    assert shown["url"] == f"http://127.0.0.1:{receiver.port}/in?..."
    assert shown["last_delivered_at"]
    delivery = (await api[Role.OPERATOR].get(f"{PATH}/{webhook_id}/deliveries")).json()["data"][0]
    assert (delivery["id"], delivery["state"], delivery["num_attempts"]) == (fields["webhook-id"], "delivered", 1)
    # Asked for by hand it comes again, under the id by which a receiver knows it.
    again = await api[Role.OPERATOR].post(f"{PATH}/{webhook_id}/deliveries/{delivery['id']}/redeliver")
    assert again.status_code == 200, again.text
    assert slug(await api[Role.OPERATOR].post(f"{PATH}/{webhook_id}/deliveries/{delivery['id']}/redeliver")) == "conflict"
    assert await send(api) == 1
    assert heard(receiver.requests[1])[0]["webhook-id"] == fields["webhook-id"]
    assert heard(receiver.requests[1])[1] == body


async def test_what_is_not_taken_is_sent_again_and_in_the_end_disables(api: Api, receiver: Listener) -> None:
    webhook_id, secret = await create(api, receiver)
    job = await api.submit_import()
    await api[Role.OPERATOR].post(f"/api/v1/jobs/{job['id']}/cancel")
    receiver.answer = http_answer("500 Oops", body=b"\x1b[31mdatabase away\x00" + b"x" * 5000)
    assert await send(api) == 1
    assert await send(api) == 0, "its pause is not over"
    receiver.answer = http_answer("302 Found", "Location: http://169.254.169.254/latest/")
    await make_due(api)
    assert await send(api) == 1
    receiver.answer = b"SSH-2.0-OpenSSH\r\n"
    await make_due(api)
    assert await send(api) == 1
    assert {heard(request)[0]["webhook-id"] for request in receiver.requests} == {heard(receiver.requests[0])[0]["webhook-id"]}

    delivery_id = heard(receiver.requests[0])[0]["webhook-id"]
    shown = (await api[Role.OPERATOR].get(f"{PATH}/{webhook_id}/deliveries/{delivery_id}")).json()
    assert shown["state"] == "pending"
    assert shown["next_attempt_at"]
    assert [(one["number"], one["status"]) for one in shown["attempts"]] == [(3, None), (2, 302), (1, 500)]
    assert "redirects are not followed" in shown["attempts"][1]["error"]
    first = shown["attempts"][2]
    assert first["answer"].startswith("\N{REPLACEMENT CHARACTER}[31mdatabase away")
    assert len(first["answer"]) == 512
    webhook = (await api[Role.VIEWER].get(f"{PATH}/{webhook_id}")).json()
    assert webhook["is_active"]
    assert webhook["failing_since"]

    await run_sql(api, "update webhooks set failing_since = now() - interval '6 days'")
    await make_due(api)
    assert await send(api) == 1
    webhook = (await api[Role.VIEWER].get(f"{PATH}/{webhook_id}")).json()
    assert not webhook["is_active"]
    assert "no delivery has succeeded since" in webhook["disabled_reason"]
    await make_due(api)
    assert await send(api) == 0
    actions = [entry["action"] for entry in (await api[Role.ADMIN].get("/api/v1/audit")).json()["data"]]
    assert "webhook.disable" in actions

    # Mended and made active again, it gets what waited.
    receiver.answer = http_answer()
    assert (await api[Role.OPERATOR].patch(f"{PATH}/{webhook_id}", json={"is_active": True})).json()["disabled_reason"] is None
    assert await send(api) == 1
    verify(heard(receiver.requests[-1])[1], heard(receiver.requests[-1])[0], secret)
    assert (await api[Role.VIEWER].get(f"{PATH}/{webhook_id}")).json()["failing_since"] is None


async def test_a_message_is_given_up_when_its_time_is_over_and_gone_is_heard(api: Api, receiver: Listener) -> None:
    webhook_id, _ = await create(api, receiver)
    for name in ("one", "two"):
        job = await api.submit_import(name)
        await api[Role.OPERATOR].post(f"/api/v1/jobs/{job['id']}/cancel")
    receiver.answer = http_answer("503 Busy", "Retry-After: 3000")
    await run_sql(
        api, "update webhook_deliveries set expires_at = now() + interval '40 min' where id in (select min(id) from webhook_deliveries)"
    )
    assert await send(api) == 2
    states = (await api[Role.OPERATOR].get(f"{PATH}/{webhook_id}/deliveries")).json()["data"]
    assert [one["state"] for one in states] == ["pending", "failed"]
    receiver.answer = http_answer("410 Gone")
    await make_due(api)
    assert await send(api) == 1
    assert "410" in (await api[Role.VIEWER].get(f"{PATH}/{webhook_id}")).json()["disabled_reason"]
    assert (await api[Role.OPERATOR].delete(f"{PATH}/{webhook_id}")).status_code == 204
    assert slug(await api[Role.OPERATOR].get(f"{PATH}/{webhook_id}/deliveries")) == "unknown-webhook"
    assert await rows_of(api, "select state from webhook_deliveries order by state") == [("dropped",), ("failed",)]
    assert await rows_of(api, "select length(secret), length(url), old_secret from webhooks") == [(0, 0, None)]
    # Its name may be taken again.
    await create(api, receiver)


async def test_a_secret_is_exchanged_and_nothing_stored_shows_one(api: Api, receiver: Listener) -> None:
    webhook_id, old = await create(api, receiver)
    rotated = await api[Role.OPERATOR].post(f"{PATH}/{webhook_id}/rotate-secret", json={"overlap_s": 3600})
    new = rotated.json()["secret"]
    assert (await api[Role.OPERATOR].post(f"{PATH}/{webhook_id}/test")).status_code == 201
    assert await send(api) == 1
    fields, body = heard(receiver.requests[0])
    assert len(fields["webhook-signature"].split(" ")) == 2
    assert verify(body, fields, old).type == verify(body, fields, new).type == "ping"
    # At once: the old one is worth nothing any more.
    newest = (await api[Role.OPERATOR].post(f"{PATH}/{webhook_id}/rotate-secret", json={"overlap_s": 0})).json()["secret"]
    await api[Role.OPERATOR].post(f"{PATH}/{webhook_id}/test")
    assert await send(api) == 1
    fields, body = heard(receiver.requests[1])
    for worthless in (old, new):
        with pytest.raises(BadSignature):
            verify(body, fields, worthless)
    verify(body, fields, [new, newest])
    stored = str(await rows_of(api, "select webhooks.*, audit_log.data from webhooks, audit_log"))
    stored += str(await rows_of(api, "select * from webhook_deliveries")) + str(await rows_of(api, "select * from webhook_attempts"))
    assert "whk_" in stored
    for secret in (old, new, newest, "t0p", *(one.removeprefix("whsec_") for one in (old, new, newest))):
        assert secret not in stored


async def test_only_what_was_asked_for_is_told(api: Api, receiver: Listener) -> None:
    await create(api, receiver, name="quantized", types=["quantize"])
    await create(api, receiver, name="failures", events=["job.failed"])
    await create(api, receiver, name="labelled", labels="team=search")
    await create(api, receiver, name="paused", is_active=False)
    slack, _ = await create(api, receiver, name="chat", format="slack", events=["job.cancelled"])
    for format in ("json", "json", "slack"):
        changed = await api[Role.OPERATOR].patch(f"{PATH}/{slack}", json={"format": format})
        assert (changed.json()["format"], changed.json()["url"]) == (format, f"http://127.0.0.1:{receiver.port}/..."), "it stays a secret"
    job = await api.submit_import()
    await api[Role.OPERATOR].post(f"/api/v1/jobs/{job['id']}/cancel")
    assert await send(api) == 1
    assert json.loads(heard(receiver.requests[0])[1]) == {
        "text": f"Job {job['id']} (import) cancelled: Somebody cancelled the job, or one that it needs."
    }


async def test_nobody_makes_one_that_leads_inside(api: Api, receiver: Listener) -> None:
    webhook_id, _ = await create(api, receiver)
    for form in (*LITERALS, *NAMES, *TRICKS):
        url = form.replace("{port}", str(receiver.port + 1))
        for answer in (
            await api[Role.OPERATOR].post(PATH, json={"name": "inside", "url": url, "events": EVERYTHING}),
            await api[Role.OPERATOR].patch(f"{PATH}/{webhook_id}", json={"url": url}),
        ):
            assert answer.status_code == 422, url
    # Stored before the rules were what they are: the rules hold each time that something is sent.
    cipher = api.app.state.api.webhook_cipher
    with listening() as inside:
        sealed = cipher.encrypt(webhook_id, f"http://127.0.0.1:{inside.port}/")
        async with api.database.begin() as uow:
            row = await uow.webhooks.lock(api.project_id, webhook_id)
            await uow.webhooks.change(row, url=sealed)
        await api[Role.OPERATOR].post(f"{PATH}/{webhook_id}/test")
        assert await send(api) == 1
        assert (inside.num_connections, receiver.num_connections) == (0, 0)
    delivery = (await api[Role.OPERATOR].get(f"{PATH}/{webhook_id}/deliveries")).json()["data"][0]
    assert "QUANTRY_OUTBOUND_PRIVATE" in delivery["last_error"]


async def test_who_may_and_what_cannot_be(api: Api, receiver: Listener) -> None:
    webhook_id, _ = await create(api, receiver)
    body = {"name": "other", "url": "https://hooks.example/", "events": EVERYTHING}
    assert slug(await api[Role.VIEWER].post(PATH, json=body)) == "forbidden"
    assert slug(await api[Role.VIEWER].get(f"{PATH}/{webhook_id}/deliveries")) == "forbidden"
    assert slug(await api[Role.OPERATOR].post(PATH, json=body | {"name": "hook"})) == "conflict"
    made = (await api[Role.OPERATOR].post(PATH, json=body)).json()["webhook"]["id"]
    assert slug(await api[Role.OPERATOR].patch(f"{PATH}/{made}", json={"name": "hook"})) == "conflict"
    refused: list[dict[str, Any]] = [
        {"events": []},
        {"events": ["ping"]},
        {"events": ["job.exploded"]},
        {"labels": "a b"},
        {"types": ["bake"]},
        {"url": ""},
    ]
    for bad in refused:
        assert slug(await api[Role.OPERATOR].post(PATH, json=body | bad)) == "invalid-input", bad
    unknown = "whk_" + "0" * 32
    for path in (unknown, "nonsense"):
        assert slug(await api[Role.OPERATOR].get(f"{PATH}/{path}")) == "unknown-webhook"
    assert (await api[Role.OPERATOR].get(f"{PATH}/{made}/deliveries/dlv_{'0' * 32}")).status_code == 404
    actions = [entry["action"] for entry in (await api[Role.ADMIN].get("/api/v1/audit")).json()["data"]]
    assert actions.count("webhook.create") == 2
