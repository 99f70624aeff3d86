"""docs/webhooks.md says what is so, and its receiver works."""

from __future__ import annotations

import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import pytest

from quantry.cli import webhooks
from quantry.cli.main import main
from quantry_api.retention.settings import RetentionSettings
from quantry_api.settings import ApiSettings
from quantry_blobs.outbound_settings import OutboundSettings
from quantry_core.outbound import PrivatePlace
from quantry_core.webhook_signatures import new_secret, signed_fields
from quantry_core.webhooks import WebhookEvent, WebhookMessage

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "webhooks.md").read_text()


def test_every_event_is_explained() -> None:
    assert re.findall(r"^\| `([a-z._]+)` \| ", PAGE, re.MULTILINE) == list(WebhookEvent)


def test_the_commands_can_be_typed(capsys: pytest.CaptureFixture[str]) -> None:
    block = next(block for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) if block.startswith("quantry"))
    commands = [shlex.split(line) for line in block.splitlines()]
    for _, *arguments in commands:
        assert main([*arguments[:2], "--help"]) == 0
        options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
        assert {argument for argument in arguments if argument.startswith("--")} <= options
    named = set(re.findall(r"`(?:quantry webhooks )?(pause|resume|redeliver|rotate|show|delivery|test|create)\b", PAGE))
    assert len(named) == 8
    assert named <= {command.name for command in webhooks.app.registered_commands}


def test_settings_are_named_as_they_are() -> None:
    fields = {f"QUANTRY_{name.upper()}" for name in ApiSettings.model_fields}
    fields |= {f"QUANTRY_{name.upper()}" for name in RetentionSettings.model_fields}
    fields |= {f"QUANTRY_OUTBOUND_{name.upper()}" for name in OutboundSettings.model_fields}
    assert set(re.findall(r"QUANTRY_[A-Z_]+", PAGE)) <= fields
    examples = re.search(r"may be reached: `([^`]+)`", PAGE)
    assert examples is not None
    assert all(PrivatePlace.parse(entry) for entry in examples[1].split(","))


def test_the_message_and_the_receiver_work() -> None:
    document = re.search(r"```json\n(.*?)```", PAGE, re.DOTALL)
    code = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert document is not None
    assert code is not None
    body = json.dumps(json.loads(document[1])).encode()
    assert WebhookMessage.model_validate_json(body).type == WebhookEvent.JOB_GATE_FAILED
    names: dict[str, Any] = {}
    exec(code[1], names)  # noqa: S102  the page's own example
    secret = new_secret()
    fields = signed_fields([secret], "dlv_1", int(time.time()), body)
    assert names["receive"](body, fields, secret) == 204
    assert names["receive"](body, fields, secret) == 204
    assert names["receive"](body + b" ", fields, secret) == 401
