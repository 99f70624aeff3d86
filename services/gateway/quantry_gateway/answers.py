"""What an engine's answer says of itself, read from its first and last bytes: id, tokens, whether it was filtered, errors."""

from __future__ import annotations

import re
from dataclasses import dataclass

_HEAD_BYTES = 256
_TAIL_BYTES = 2048

_ID = re.compile(rb'"id"\s*:\s*"([A-Za-z0-9_.:-]{1,128})"')
_PROMPT_TOKENS = re.compile(rb'"prompt_tokens"\s*:\s*(\d{1,12})')
_COMPLETION_TOKENS = re.compile(rb'"completion_tokens"\s*:\s*(\d{1,12})')
_FILTERED = (b'"content_filter"', b'"refusal":"', b'"refusal": "')
_ERROR_EVENTS = (b'data: {"error":{', b'data: {"error": {', b'data: {"object":"error"', b'data: {"object": "error"')


@dataclass(frozen=True, slots=True)
class Said:
    """What was found. None where the answer does not say."""

    answer_id: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    is_filtered: bool = False


def said_by(head: bytes, tail: bytes) -> Said:
    """Returns what an answer says that begins with ``head`` and ends with ``tail``, of which a few hundred bytes are looked at.

    Quotes inside of texts are escaped, so that none of these names is found in one.
    """
    name = _ID.search(head, 0, _HEAD_BYTES)
    start = max(0, len(tail) - _TAIL_BYTES)
    usage = tail.rfind(b'"usage"', start)
    if usage < 0:
        # An engine may write more behind it, such as the prompt's logprobs.
        usage = tail.rfind(b'"usage"')
    return Said(
        answer_id=name.group(1).decode() if name is not None else None,
        prompt_tokens=_number(_PROMPT_TOKENS, tail, usage),
        completion_tokens=_number(_COMPLETION_TOKENS, tail, usage),
        is_filtered=any(tail.find(sign, start) >= 0 for sign in _FILTERED),
    )


def holds_error(events: bytes) -> bool:
    """Tells whether one of these events is an engine's error: it has begun to answer, and gives up."""
    if b'"error"' not in events:
        return False
    return events.startswith(_ERROR_EVENTS) or any(b"\n" + event in events for event in _ERROR_EVENTS)


def _number(pattern: re.Pattern[bytes], tail: bytes, usage: int) -> int | None:
    found = pattern.search(tail, usage) if usage >= 0 else None
    return int(found.group(1)) if found is not None else None
