"""Webhooks without a database: signatures, pauses, words, and who is told what."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from quantry_core.jobs import Operator, parse_selector
from quantry_core.webhook_retries import GIVE_UP_AFTER_S, LONGEST_PAUSE_S, asked_pause_s, is_taken, pause_s
from quantry_core.webhook_signatures import BadSignature, check, new_secret, secret_bytes, sign, signed_fields
from quantry_core.webhook_words import Links, body_of, sentence_of
from quantry_core.webhooks import (
    SUBSCRIBABLE,
    WebhookChange,
    WebhookEvent,
    WebhookFormat,
    WebhookMessage,
    WebhookRequest,
    labels_match,
    shown_url,
    told_as,
)

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SENT_AT_S = 1_614_265_330
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
BODY = b'{"test": 2432232314}'


class TestSignatures:
    def test_are_those_of_the_standard(self) -> None:
        # The example that the libraries of Standard Webhooks are tested with.
        assert sign(SECRET, MESSAGE_ID, SENT_AT_S, BODY) == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

    @given(st.binary(max_size=200), st.integers(0, 10**11))
    def test_are_an_hmac_of_id_time_and_body(self, body: bytes, sent_at_s: int) -> None:
        secret = new_secret()
        content = f"dlv_1.{sent_at_s}.".encode() + body
        expected = hmac.new(base64.b64decode(secret.removeprefix("whsec_")), content, hashlib.sha256).digest()
        assert sign(secret, "dlv_1", sent_at_s, body) == "v1," + base64.b64encode(expected).decode()

    def test_of_both_secrets_are_good_while_one_is_exchanged(self) -> None:
        old, new = new_secret(), new_secret()
        fields = signed_fields([new, old], "dlv_1", SENT_AT_S, BODY)
        for secret in (old, new):
            assert check(secret, fields, BODY, now_s=SENT_AT_S + 10) == ("dlv_1", SENT_AT_S)
        with pytest.raises(BadSignature, match="no signature"):
            check(new_secret(), fields, BODY, now_s=SENT_AT_S)

    @pytest.mark.parametrize(
        ("changes", "body", "words"),
        [
            ({"webhook-id": "dlv_2"}, BODY, "no signature"),
            ({"webhook-timestamp": str(SENT_AT_S + 1)}, BODY, "no signature"),
            ({}, BODY + b" ", "no signature"),
            ({"webhook-signature": "v1,"}, BODY, "no signature"),
            ({"webhook-signature": "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="}, BODY, "no signature"),
            ({"webhook-signature": " ".join(["v1,AAAA"] * 5000)}, BODY, "no signature"),
            ({"webhook-signature": "v1,\u00fc\u00fc"}, BODY, "no signature"),
            ({"webhook-signature": ""}, BODY, "has no webhook-signature"),
            ({"webhook-timestamp": ""}, BODY, "has no webhook-timestamp"),
            ({"webhook-timestamp": "-1"}, BODY, "not what a sender writes"),
            ({"webhook-timestamp": "1e9"}, BODY, "not what a sender writes"),
            ({"webhook-timestamp": "9" * 13}, BODY, "not what a sender writes"),
            ({"webhook-id": "dlv_1\r\nx"}, BODY, "not what a sender writes"),
        ],
    )
    def test_that_are_forged_are_refused(self, changes: dict[str, str], body: bytes, words: str) -> None:
        fields = signed_fields([SECRET], "dlv_1", SENT_AT_S, BODY) | changes
        with pytest.raises(BadSignature, match=words) as refused:
            check(SECRET, fields, body, now_s=SENT_AT_S)
        assert SECRET.removeprefix("whsec_") not in str(refused.value)

    @pytest.mark.parametrize("late_s", [301, -301, 10**6])
    def test_of_another_time_are_refused(self, late_s: int) -> None:
        fields = {name.title(): value for name, value in signed_fields([SECRET], "dlv_1", SENT_AT_S, BODY).items()}
        with pytest.raises(BadSignature, match="ago"):
            check(SECRET, fields, BODY, now_s=SENT_AT_S + late_s)
        check(SECRET, fields, BODY, now_s=SENT_AT_S + late_s, tolerance_s=abs(late_s))

    @pytest.mark.parametrize("secret", ["", "whsec_", "whsec_short", "whsec_" + "A" * 20, "whsec_" + "A" * 200, "whsec_\u00fc" + "A" * 40])
    def test_need_a_secret(self, secret: str) -> None:
        with pytest.raises(ValueError, match="a webhook's secret"):
            secret_bytes(secret)


class TestPauses:
    def test_grow_to_four_hours_and_end_after_three_days(self) -> None:
        assert [round(pause_s(number, 0.5)) for number in range(1, 9)] == [5, 15, 45, 135, 405, 1215, 3645, 10935]
        assert pause_s(9, 0.5) == pause_s(10_000, 0.5) == LONGEST_PAUSE_S
        total_s, attempts = 0.0, 0
        while total_s < GIVE_UP_AFTER_S:
            attempts += 1
            total_s += pause_s(attempts, 0.5)
        assert 20 <= attempts <= 30

    @given(st.integers(0, 100), st.floats(0, 1, exclude_max=True))
    def test_lie_within_a_fifth(self, num_attempts: int, draw: float) -> None:
        assert 0.79 * pause_s(num_attempts, 0.5) < pause_s(num_attempts, draw) < 1.21 * pause_s(num_attempts, 0.5)

    @pytest.mark.parametrize(
        ("status", "field", "seconds"),
        [
            (503, "120", 120),
            (429, "0", 0),
            (429, "999999999999999999", LONGEST_PAUSE_S),
            (500, "120", 0),
            (429, None, 0),
            (429, "soon", 0),
            (429, "\u0661\u0662", 0),
        ],
    )
    def test_are_asked_for_by_who_is_busy(self, status: int, field: str | None, seconds: float) -> None:
        assert asked_pause_s(status, field) == seconds

    def test_follow_what_is_no_success(self) -> None:
        assert [status for status in (200, 204, 299, 199, 301, 304, 400, 410, 500) if is_taken(status)] == [200, 204, 299]


class TestWords:
    MESSAGE = WebhookMessage(
        type="job.failed",
        timestamp=NOW,
        data={
            "job_id": "job_1",
            "job_type": "quantize",
            "status": "failed",
            "message": "a <b> & c",
            "path": "/api/v1/jobs/job_1",
            "page": "/jobs/job_1",
        },
    )

    def test_are_the_same_bytes_each_time(self) -> None:
        links = Links("https://quantry.example/", "https://dash.example")
        body = body_of(self.MESSAGE, WebhookFormat.JSON, links)
        assert body == body_of(self.MESSAGE, WebhookFormat.JSON, links)
        document = json.loads(body)
        assert document["type"] == "job.failed"
        assert document["timestamp"] == "2026-11-22T12:00:00+00:00"
        assert document["data"]["url"] == "https://quantry.example/api/v1/jobs/job_1"
        assert document["data"]["page_url"] == "https://dash.example/jobs/job_1"
        assert "url" not in json.loads(body_of(self.MESSAGE, WebhookFormat.JSON, Links()))["data"]

    def test_for_people_hold_no_markup_of_others(self) -> None:
        assert json.loads(body_of(self.MESSAGE, WebhookFormat.SLACK, Links(None, "https://dash.example"))) == {
            "text": "Job <https://dash.example/jobs/job_1|job_1> (quantize) failed: a &lt;b&gt; &amp; c"
        }

    @pytest.mark.parametrize("event", [*SUBSCRIBABLE, WebhookEvent.PING])
    def test_there_are_for_every_event(self, event: WebhookEvent) -> None:
        data = {"name": "<!channel>", "job_type": "deploy", "verdict": "fail", "message": "why"}
        sentence = sentence_of(WebhookMessage(type=event, timestamp=NOW, data=data), Links())
        assert "&lt;!channel&gt;" in sentence
        assert "None" not in sentence


class TestWhoIsTold:
    def test_a_failed_gate_is_a_failure_to_who_asked_for_failures_alone(self) -> None:
        gate, failed = WebhookEvent.JOB_GATE_FAILED, WebhookEvent.JOB_FAILED
        assert told_as(gate, [failed]) is failed
        assert told_as(gate, [failed, gate]) is gate
        assert told_as(failed, [gate]) is None

    @given(
        st.lists(st.sampled_from(["team=search", "team!=search", "team", "!team", "stage=test", "!draft"]), min_size=1, max_size=3),
        st.dictionaries(st.sampled_from(["team", "stage", "draft"]), st.sampled_from(["search", "test", ""])),
    )
    def test_labels_are_read_as_lists_of_jobs_read_them(self, parts: list[str], labels: dict[str, str]) -> None:
        expected = all(
            {
                Operator.EQUAL: labels.get(one.key) == one.value,
                Operator.NOT_EQUAL: labels.get(one.key) != one.value,
                Operator.PRESENT: one.key in labels,
                Operator.ABSENT: one.key not in labels,
            }[one.operator]
            for one in parse_selector(",".join(parts))
        )
        assert labels_match(",".join(parts), labels) is expected
        assert labels_match(None, labels)

    @pytest.mark.parametrize(
        ("url", "format", "shown"),
        [
            ("https://a.example/in", WebhookFormat.JSON, "https://a.example/in"),
            ("https://a.example/in?token=x", WebhookFormat.JSON, "https://a.example/in?..."),
            ("https://hooks.slack.com/services/T/B/x", WebhookFormat.SLACK, "https://hooks.slack.com/..."),
            ("https://chat.example?key=x", WebhookFormat.SLACK, "https://chat.example/..."),
            ("https://chat.example/", WebhookFormat.SLACK, "https://chat.example"),
        ],
    )
    def test_an_address_is_shown_without_its_secrets(self, url: str, format: WebhookFormat, shown: str) -> None:
        assert shown_url(url, format) == shown

    def test_requests_are_closed(self) -> None:
        good = {"name": "a", "url": "https://a.example", "events": ["job.failed", "job.failed"]}
        assert WebhookRequest.model_validate(good).events == [WebhookEvent.JOB_FAILED]
        bad_fields: list[dict[str, object]] = [{"events": []}, {"events": ["ping"]}, {"labels": "a b"}, {"secret": "x"}, {"name": "A"}]
        for bad in bad_fields:
            with pytest.raises(ValidationError):
                WebhookRequest.model_validate(good | bad)
        with pytest.raises(ValidationError):
            WebhookChange.model_validate({"secret": "x"})
