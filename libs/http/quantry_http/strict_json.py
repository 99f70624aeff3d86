"""JSON as RFC 8259 has it. Python's reader takes more: numbers that are none, names that come twice, halves of characters."""

from __future__ import annotations

import json
from collections import Counter
from math import isinf
from typing import Any, NoReturn


class NotStrict(Exception):
    """What Python would read here and others would not, or would read as something else. Says what it is."""


def check_json(raw: bytes) -> None:
    """Raises NotStrict for JSON that does not mean one thing everywhere. What is no JSON at all is left to whoever reads it next."""
    try:
        document = json.loads(raw, parse_constant=_refuse_constant, parse_float=_finite, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        return
    if b"\\ud" in raw or b"\\uD" in raw:
        _check_text(document)


def _refuse_constant(name: str) -> NoReturn:
    raise NotStrict(f"{name} is no number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise NotStrict(f"the number {digits[:40]} is larger than a number can be here")
    return number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name, number in Counter(names).items() if number > 1)
        raise NotStrict(f"the name {twice[:80]!r} comes twice in one object")
    return made


def _check_text(document: Any) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise NotStrict(f"\\u{ord(error.object[error.start]):04x} is half of a character, and stands alone") from None
