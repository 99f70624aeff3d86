"""One captured prompt as the rows of a dataset: what is text in it, scrubbed."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NamedTuple

from quantry_core.datasets import DatasetKind
from quantry_core.rows import BadRow, Role, parse_row
from quantry_core.scrubbing import ScrubKind, scrub

CHAT_PATH = "/v1/chat/completions"
_OTHER_NAMES = {"developer": Role.SYSTEM}


class PromptRows(NamedTuple):
    """The rows of a prompt as lines of JSON, none where it has no form that a row can have, and what was replaced in them."""

    lines: list[bytes]
    num_scrubbed: Counter[ScrubKind]


def kind_of_path(path: str) -> DatasetKind:
    """Returns which rows the prompts of an endpoint become: chats, or plain texts."""
    return DatasetKind.CHAT if path == CHAT_PATH else DatasetKind.ROWS


def rows_of(path: str, body: str) -> PromptRows:
    """Returns what a captured body becomes; pictures, calls of tools and tokens become nothing."""
    counts: Counter[ScrubKind] = Counter()
    kind = kind_of_path(path)
    try:
        prompt = json.loads(body)
        found = [_chat(prompt, counts)] if kind is DatasetKind.CHAT else _texts(prompt, counts)
        lines = [json.dumps(fields, ensure_ascii=False) for fields in found]
        for line in lines:
            parse_row(kind, line)
    except (ValueError, RecursionError):
        return PromptRows([], Counter())
    return PromptRows([line.encode() + b"\n" for line in lines], counts)


def _texts(prompt: Any, counts: Counter[ScrubKind]) -> list[dict[str, Any]]:
    """Returns a row for each text of a completion's prompt, which may be several at once."""
    texts = prompt if isinstance(prompt, list) else [prompt]
    if not all(isinstance(text, str) for text in texts):
        raise BadRow("is tokens, not text")
    return [{"text": _scrubbed(text, counts)} for text in texts]


def _chat(messages: Any, counts: Counter[ScrubKind]) -> dict[str, Any]:
    if not isinstance(messages, list):
        raise BadRow("is no list of messages")
    return {"messages": [_message(message, counts) for message in messages]}


def _message(message: Any, counts: Counter[ScrubKind]) -> dict[str, str]:
    if not isinstance(message, dict):
        raise BadRow("is no message")
    role = str(message.get("role", ""))
    return {"role": _OTHER_NAMES.get(role, role), "content": _scrubbed(_content(message.get("content")), counts)}


def _content(content: Any) -> str:
    """Returns a message's text, which may come in parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BadRow("has no text")
    parts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content]
    if not all(isinstance(part, str) for part in parts):
        raise BadRow("is not text alone")
    return "\n".join(str(part) for part in parts)


def _scrubbed(text: str, counts: Counter[ScrubKind]) -> str:
    found = scrub(text)
    counts.update(found.counts)
    return found.text
