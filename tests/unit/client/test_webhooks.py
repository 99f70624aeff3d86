"""Webhooks in the SDK, at the receiver's, and on the command line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

import quantry.webhooks
from factories.client import JOB_ID, NOW, FakeServer, answer, page, problem
from quantry.cli import main as command
from quantry.cli import webhooks as commands
from quantry.webhooks import BadSignature, Replayed, SeenMessages
from quantry_core.webhook_signatures import new_secret, signed_fields
from quantry_core.webhooks import (
    SUBSCRIBABLE,
    DeliveryState,
    NewWebhook,
    Webhook,
    WebhookAttempt,
    WebhookDelivery,
    WebhookDeliveryDetail,
    WebhookEvent,
    WebhookFormat,
)

WEBHOOK_ID = "whk_0197f0a0000070008000000000000001"
DELIVERY_ID = "dlv_0197f0a0000070008000000000000001"
PATH = "/api/v1/webhooks"
HOOK_PATH = f"{PATH}/{WEBHOOK_ID}"
DELIVERY_PATH = f"{HOOK_PATH}/deliveries/{DELIVERY_ID}"
BODY = json.dumps({"type": "job.failed", "timestamp": NOW.isoformat(), "data": {"job_id": JOB_ID}}).encode()
SENT_AT_S = 1_700_000_000


def webhook(**changes: Any) -> Webhook:
    values: dict[str, Any] = {
        "id": WEBHOOK_ID,
        "project_id": "prj_1",
        "name": "hook",
        "url": "https://hooks.example/in",
        "events": list(SUBSCRIBABLE),
        "format": WebhookFormat.JSON,
        "is_active": True,
        "created_at": NOW,
    }
    return Webhook.model_validate(values | changes)


def delivery(**changes: Any) -> WebhookDeliveryDetail:
    values: dict[str, Any] = {
        "id": DELIVERY_ID,
        "webhook_id": WEBHOOK_ID,
        "event": WebhookEvent.PING,
        "subject_id": WEBHOOK_ID,
        "state": DeliveryState.DELIVERED,
        "num_attempts": 1,
        "last_status": 204,
        "created_at": NOW,
        "message": {"type": "ping"},
        "attempts": [WebhookAttempt(number=1, sent_at=NOW, duration_ms=1500, status=204, error=None, answer="ok")],
    }
    return WebhookDeliveryDetail.model_validate(values | changes)


def run(*arguments: str) -> int:
    return command.main(("webhooks", *arguments))


def sent(server: FakeServer) -> Any:
    return json.loads(server.requests[-1].content)


class TestReceivers:
    SECRET = new_secret()

    def fields(self, message_id: str = "dlv_1", *secrets: str) -> dict[str, str]:
        return signed_fields(secrets or [self.SECRET], message_id, SENT_AT_S, BODY)

    def test_get_the_message(self) -> None:
        message = quantry.webhooks.verify(BODY.decode(), self.fields(), self.SECRET, now_s=SENT_AT_S)
        assert (message.type, message.data, message.timestamp) == ("job.failed", {"job_id": JOB_ID}, NOW)

    def test_may_hold_two_secrets(self) -> None:
        other = new_secret()
        assert quantry.webhooks.verify(BODY, self.fields("dlv_1", other), [self.SECRET, other], now_s=SENT_AT_S)
        with pytest.raises(BadSignature):
            quantry.webhooks.verify(BODY, self.fields("dlv_1", new_secret()), [self.SECRET, other], now_s=SENT_AT_S)
        with pytest.raises(ValueError, match="at least one"):
            quantry.webhooks.verify(BODY, self.fields(), [], now_s=SENT_AT_S)

    def test_believe_no_forged_old_or_repeated_message(self) -> None:
        seen = SeenMessages()
        with pytest.raises(BadSignature):
            quantry.webhooks.verify(BODY + b" ", self.fields(), self.SECRET, now_s=SENT_AT_S, seen=seen)
        with pytest.raises(BadSignature, match="400 s ago"):
            quantry.webhooks.verify(BODY, self.fields(), self.SECRET, now_s=SENT_AT_S + 400, seen=seen)
        # Neither has taken the place of the real one.
        quantry.webhooks.verify(BODY, self.fields(), self.SECRET, now_s=SENT_AT_S, seen=seen)
        with pytest.raises(Replayed):
            quantry.webhooks.verify(BODY, self.fields(), self.SECRET, now_s=SENT_AT_S + 299, seen=seen)
        quantry.webhooks.verify(BODY, self.fields("dlv_2"), self.SECRET, now_s=SENT_AT_S, seen=seen)

    def test_know_a_message_for_as_long_as_its_last_sending_is_good(self) -> None:
        seen = SeenMessages(keep_s=600)
        assert [seen.is_new("dlv_1", now_s) for now_s in (0, 500, 1000)] == [True, False, False]
        assert seen.is_new("dlv_1", 1601)

    def test_that_are_chat_servers_are_told_so(self) -> None:
        body = b'{"text":"hello"}'
        with pytest.raises(BadSignature, match="no message of format json"):
            quantry.webhooks.verify(body, signed_fields([self.SECRET], "dlv_1", SENT_AT_S, body), self.SECRET, now_s=SENT_AT_S)

    def test_remember_ids_for_a_while_and_not_too_many(self) -> None:
        seen = SeenMessages(keep_s=10, max_ids=3)
        assert [seen.is_new(one, 0.0) for one in "aab"] == [True, False, True]
        assert seen.is_new("a", 11.0)
        assert all(seen.is_new(str(number), 11.0) for number in range(100))
        assert len(seen._seen) <= 4


class TestSdk:
    def test_makes_and_changes(self, server: FakeServer) -> None:
        made = NewWebhook(webhook=webhook(), secret="whsec_x")
        server.on("POST", PATH, answer(made, 201))
        server.on("PATCH", HOOK_PATH, answer(webhook(is_active=False)))
        server.on("POST", f"{HOOK_PATH}/rotate-secret", answer(made))
        server.on("DELETE", HOOK_PATH, answer({}, 204))
        with server.client() as client:
            assert client.webhooks.create("hook", "https://hooks.example/in", ["job.failed"], labels="team=a", types=["quantize"]) == made
            assert sent(server) == {
                "name": "hook",
                "url": "https://hooks.example/in",
                "events": ["job.failed"],
                "labels": "team=a",
                "types": ["quantize"],
                "format": "json",
                "is_active": True,
            }
            assert client.webhooks.pause(WEBHOOK_ID).is_active is False
            assert sent(server) == {"is_active": False}
            client.webhooks.change(WEBHOOK_ID, labels=None)
            assert sent(server) == {"labels": None}
            client.webhooks.rotate_secret(WEBHOOK_ID, overlap_s=60)
            assert sent(server) == {"overlap_s": 60}
            client.webhooks.delete(WEBHOOK_ID)
            with pytest.raises(ValidationError):
                client.webhooks.create("hook", "https://hooks.example/in", ["ping"])

    def test_reads_and_sends_again(self, server: FakeServer) -> None:
        server.on("GET", f"{HOOK_PATH}/deliveries", page(WebhookDelivery.model_validate(delivery().model_dump())))
        server.on("GET", DELIVERY_PATH, answer(delivery()))
        server.on("POST", f"{DELIVERY_PATH}/redeliver", answer(delivery()))
        server.on("POST", f"{HOOK_PATH}/test", answer(delivery(), 201))
        with server.client() as client:
            assert client.webhooks.deliveries(WEBHOOK_ID, state=DeliveryState.FAILED).data[0].id == DELIVERY_ID
            assert server.requests[-1].url.params["state"] == "failed"
            assert client.webhooks.delivery(WEBHOOK_ID, DELIVERY_ID).attempts[0].status == 204
            assert client.webhooks.redeliver(WEBHOOK_ID, DELIVERY_ID).id == DELIVERY_ID
            assert client.webhooks.test(WEBHOOK_ID).event is WebhookEvent.PING


class TestCommands:
    def test_create_prints_the_secret_and_nothing_else(self, server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
        server.on("POST", PATH, answer(NewWebhook(webhook=webhook(), secret="whsec_x"), 201))
        assert run("create", "--name", "hook", "--url", "https://hooks.example/in", "--event", "job.failed", "--type", "quantize") == 0
        assert capsys.readouterr().out == "whsec_x\n"
        assert sent(server)["events"] == ["job.failed"]
        assert run("create", "--name", "hook", "--url", "https://hooks.example/in") == 0
        assert sent(server)["events"] == list(SUBSCRIBABLE)
        assert run("create", "--name", "hook", "--url", "x", "--label", "a b") == 2

    def test_list_and_show_say_how_it_goes(self, server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
        disabled = webhook(is_active=False, disabled_reason="it answered 410: it wants no more")
        server.on("GET", PATH, page(webhook(), disabled, webhook(is_active=False), webhook(failing_since=NOW)))
        server.on("GET", HOOK_PATH, answer(disabled))
        assert run("list") == 0
        out = capsys.readouterr().out
        assert all(words in out for words in ("active", "disabled", "paused", "failing since"))
        assert run("show", WEBHOOK_ID) == 0
        assert "it wants no more" in capsys.readouterr().out
        assert run("show", WEBHOOK_ID, "--json") == 0
        assert json.loads(capsys.readouterr().out)["id"] == WEBHOOK_ID

    def test_change_sends_what_is_given(self, server: FakeServer) -> None:
        server.on("PATCH", HOOK_PATH, answer(webhook()))
        assert run("change", WEBHOOK_ID, "--url", "https://other.example/", "--any-job") == 0
        assert sent(server) == {"url": "https://other.example/", "labels": None, "types": []}
        assert run("pause", WEBHOOK_ID) == 0
        assert sent(server) == {"is_active": False}
        assert run("resume", WEBHOOK_ID) == 0
        assert sent(server) == {"is_active": True}
        assert run("change", WEBHOOK_ID) == 2
        assert run("change", WEBHOOK_ID, "--name", "Bad Name") == 2

    def test_rotate_and_delete(self, server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
        server.on("POST", f"{HOOK_PATH}/rotate-secret", answer(NewWebhook(webhook=webhook(), secret="whsec_y")))
        server.on("DELETE", HOOK_PATH, answer({}, 204))
        assert run("rotate", WEBHOOK_ID, "--overlap", "0") == 0
        assert sent(server) == {"overlap_s": 0}
        assert run("rotate", WEBHOOK_ID) == 0
        assert sent(server) == {"overlap_s": 24 * 3600}
        assert run("delete", WEBHOOK_ID) == 0
        assert capsys.readouterr().out.splitlines() == ["whsec_y", "whsec_y", f"{WEBHOOK_ID} is deleted"]

    def test_a_test_waits_for_its_answer(
        self, server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(commands, "TEST_POLL_S", 0.0)
        waiting = delivery(state=DeliveryState.PENDING, num_attempts=0, last_status=None, attempts=[])
        refused = WebhookAttempt(number=1, sent_at=NOW, duration_ms=20, status=500, error="it answered 500", answer="oops")
        server.on("POST", f"{HOOK_PATH}/test", answer(waiting, 201))
        server.on("GET", DELIVERY_PATH, answer(waiting), answer(delivery(state=DeliveryState.PENDING, attempts=[refused])))
        assert run("test", WEBHOOK_ID) == 1
        assert "it answered 500" in capsys.readouterr().out
        server.on("GET", DELIVERY_PATH, answer(delivery()))
        assert run("test", WEBHOOK_ID) == 0

    def test_deliveries(self, server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
        server.on("GET", f"{HOOK_PATH}/deliveries", page(WebhookDelivery.model_validate(delivery().model_dump())))
        server.on("GET", DELIVERY_PATH, answer(delivery()))
        server.on("POST", f"{DELIVERY_PATH}/redeliver", answer(delivery()), problem(409, "conflict", "delivery is under way"))
        assert run("deliveries", WEBHOOK_ID, "--state", "failed") == 0
        assert run("delivery", WEBHOOK_ID, DELIVERY_ID) == 0
        assert "1.5 s" in capsys.readouterr().out
        assert run("redeliver", WEBHOOK_ID, DELIVERY_ID) == 0
        assert run("redeliver", WEBHOOK_ID, DELIVERY_ID) == 1
