"""What a webhook's message looks like when it is sent: JSON for programs, a sentence for chat servers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from quantry_core.webhooks import WebhookEvent, WebhookFormat, WebhookMessage


class Links(NamedTuple):
    """What links begin with; None: there are none."""

    api: str | None = None
    dashboard: str | None = None

    def to_api(self, data: Mapping[str, Any]) -> str | None:
        """Returns where a program reads more."""
        return _joined(self.api, data.get("path"))

    def to_page(self, data: Mapping[str, Any]) -> str | None:
        """Returns where a person does."""
        return _joined(self.dashboard, data.get("page"))


NO_LINKS = Links()


def body_of(message: WebhookMessage, format: WebhookFormat, links: Links) -> bytes:
    """Returns the bytes of a message: the same each time it is sent. A link is added where it is known what it begins with."""
    if format is WebhookFormat.SLACK:
        return _json({"text": sentence_of(message, links)})
    data = dict(message.data)
    data |= {name: url for name, url in (("url", links.to_api(data)), ("page_url", links.to_page(data))) if url is not None}
    return _json({"type": message.type, "timestamp": message.timestamp.isoformat(), "data": data})


def sentence_of(message: WebhookMessage, links: Links) -> str:
    """Returns a message as people read it, in Slack's markup."""
    data = message.data
    name = _escaped(str(data.get("name") or data.get("job_id") or data.get("rollout_id") or data.get("schedule_id") or ""))
    page = links.to_page(data)
    if page is not None:
        name = f"<{page}|{name}>"
    match message.type:
        case WebhookEvent.PING:
            return f"Quantry: a test of the webhook {name}"
        case WebhookEvent.ROLLOUT_VERDICT:
            return f"Rollout of {name}: {_escaped(str(data.get('verdict')))}{_behind(data.get('message'))}"
        case WebhookEvent.SCHEDULE_FAILED:
            return f"Schedule {name} started nothing{_behind(data.get('message'))}"
        case WebhookEvent.JOB_WORKER_LOST:
            return f"Job {name} ({_escaped(str(data.get('job_type')))}) lost its worker and is tried again"
    kind, _, happened = message.type.partition(".")
    if kind == "rollout":
        return f"Rollout of {name} was {_escaped(happened.replace('_', ' '))}{_behind(data.get('message'))}"
    return f"Job {name} ({_escaped(str(data.get('job_type')))}) {_escaped(str(data.get('status', happened)))}{_behind(data.get('message'))}"


def _joined(begin: str | None, path: object) -> str | None:
    return begin.rstrip("/") + path if begin is not None and isinstance(path, str) else None


def _behind(words: Any) -> str:
    return f": {_escaped(str(words))}" if words else ""


def _escaped(text: str) -> str:
    """Returns text without anything that Slack takes for a link, a mention or an entity. https://docs.slack.dev/messaging/formatting-message-text"""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _json(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
