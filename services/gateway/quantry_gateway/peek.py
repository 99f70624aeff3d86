"""Top-level fields of a request's body, read without parsing all of it.

A large body is one long prompt with a few short fields before or behind it. A field is searched for from the end, and only the shorter
side of the body beside it is parsed, to be sure that it stands at the top level. Whatever is not plain is left to json.loads.
"""

from __future__ import annotations

import json
import re
from typing import Any

WHOLE_BYTES = 4096
"""A body up to this size is parsed whole: that takes no longer."""

_BLANKS = rb"[ \t\r\n]*"
_OBJECT_BEGINS = re.compile(_BLANKS + rb'\{[ \t\r\n"]')
_COLON = re.compile(_BLANKS + rb":")
_VALUE = re.compile(_BLANKS + rb":" + _BLANKS + rb'(?:"([^"\\\x00-\x1f]*)"|(true|false|null))' + _BLANKS + rb"[,}]")
_LITERALS = {b"true": True, b"false": False, b"null": None}


class _NotPlain(Exception):
    """Only parsing the whole body will tell."""


class Fields:
    """The fields of one body. Of a name that occurs twice the last counts, as with json.loads.

    A large body that begins as an object and is broken further on may not be noticed here. Its engine will.
    """

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._document: dict[str, Any] | None = None
        self._has_backslash: bool | None = None
        if len(body) <= WHOLE_BYTES:
            self._parse()

    def get(self, name: str) -> Any:
        """Returns a top-level field, or None where there is none. The name holds lower-case letters and underscores only.

        Raises ValueError or RecursionError where the body is no JSON object.
        """
        if self._document is None:
            try:
                return self._peek(name.encode("ascii"))
            except _NotPlain:
                pass
        return self._parse().get(name)

    def _peek(self, name: bytes) -> Any:
        """Returns the string, bool or None at the last top-level occurrence of a name; raises _NotPlain where that is not certain."""
        body = self._body
        if _OBJECT_BEGINS.match(body) is None:
            raise _NotPlain
        token = b'"' + name + b'"'
        start = body.rfind(token)
        while start >= 0 and _COLON.match(body, start + len(token)) is None:
            # Some field's value, such as the role of each message.
            start = body.rfind(token, 0, start)
        if self._has_backslash is None:
            self._has_backslash = b"\\" in body
        # A quote after a backslash may end a longer name, and one spelt with escapes counts too, where it stands later.
        if self._has_backslash and (body[start - 1 : start] == b"\\" or _may_hold_escaped_letters(body, max(start, 0))):
            raise _NotPlain
        if start < 0:
            return None
        value = _VALUE.match(body, start + len(token))
        if value is None or not _is_top_level(body, start):
            raise _NotPlain
        text, literal = value.groups()
        if literal is not None:
            return _LITERALS[literal]
        try:
            return text.decode()
        except UnicodeDecodeError:
            raise _NotPlain from None

    def _parse(self) -> dict[str, Any]:
        if self._document is None:
            document = json.loads(self._body)
            if not isinstance(document, dict):
                raise ValueError(f"it holds a {type(document).__name__}")
            self._document = document
        return self._document


def _may_hold_escaped_letters(body: bytes, start: int) -> bool:
    # Lower-case letters and the underscore are U+005F to U+007A. rfind, because it is three times as fast as find here.
    if body.rfind(b"\\u00", start) < 0:
        return False
    return any(body.rfind(b"\\u00" + digit, start) >= 0 for digit in (b"5", b"6", b"7"))


def _is_top_level(body: bytes, start: int) -> bool:
    """Tells whether a key that starts at ``start`` belongs to the outermost object: one side of it makes an object by itself."""
    try:
        if start <= len(body) // 2:
            json.loads(body[:start] + b'"":0}')
        else:
            json.loads(b"{" + body[start:])
    except (ValueError, RecursionError):
        return False
    return True
