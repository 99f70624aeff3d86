"""Secrets are blotted out of what leaves a process as words: log lines, and the attributes of spans.

They should not get there at all. This is for what nobody thought of: an error that quotes its input, a URL with a password.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

BLOT = "[redacted]"
MIN_SECRET_CHARS = 8
"""A shorter value would blot out words that are no secret."""

_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_KEY|ACCESS_KEY|CAPTURE_KEYS|CREDENTIAL|(^|_)KEYS?$", re.IGNORECASE)
_SHAPES = (
    # Keys of this platform: the prefix stays, so that one sees what stood there.
    (re.compile(r"qtr_[A-Za-z0-9_-]{8,}"), "qtr_" + BLOT),
    # One-time tokens of hosts, and secrets of webhooks.
    (re.compile(r"qte_[A-Za-z0-9_-]{8,}"), "qte_" + BLOT),
    (re.compile(r"whsec_[A-Za-z0-9+/=]{8,}"), "whsec_" + BLOT),
    # Signed tokens of a sign-in: a head in JSON, then claims.
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?"), BLOT),
    (re.compile(r"(?i)\b(bearer|basic)(\s+)[A-Za-z0-9._~+/=-]{8,}"), r"\1\2" + BLOT),
    # The password of a URL, and the user with it where nothing stands between.
    (re.compile(r"(?<=://)[^/\s:@\"']*:[^/\s@\"']+(?=@)"), BLOT),
    (re.compile(r"\bhf_[A-Za-z0-9]{16,}"), "hf_" + BLOT),
)


class Blotter:
    """Blots out what has the shape of a secret, and the values it was told of."""

    def __init__(self, values: frozenset[str] = frozenset()) -> None:
        # As JSON writes them too: a line of the log is JSON. The longest first: one secret may hold another.
        written = values | {json.dumps(value)[1:-1] for value in values}
        known = sorted((value for value in written if len(value) >= MIN_SECRET_CHARS), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, known))) if known else None

    def blot(self, text: str) -> str:
        """Returns the text without its secrets."""
        if self._known is not None:
            text = self._known.sub(BLOT, text)
        for shape, instead in _SHAPES:
            text = shape.sub(instead, text)
        return text


def secrets_of(environment: Mapping[str, str] = os.environ) -> frozenset[str]:
    """Returns the values of variables that hold secrets by their names, and the passwords of URLs. Values with several keys in them,
    separated by commas, count one by one too."""
    found: set[str] = set()
    for name, value in environment.items():
        if _SECRET_NAME.search(name):
            found |= {value, *value.split(",")}
        elif "://" in value:
            found |= _password_of(value)
    return frozenset(found)


def _password_of(url: str) -> set[str]:
    try:
        password = urlsplit(url).password
    except ValueError:
        return set()
    return set() if password is None else {password, unquote(password)}
