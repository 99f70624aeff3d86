"""Sign-ins by a provider that are under way: kept by the browser that began them, in one signed cookie. Pure, but for the clock.

So nobody can have those of others forgotten, however many they begin. What must not be seen on the way (the nonce until the token names it,
the verifier of PKCE until the code is exchanged) is no part of the cookie: both are made from the state by the dashboard's secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import NamedTuple

PENDING_S = 600.0
"""How long somebody may take at the provider."""
MAX_COOKIE_CHARS = 3800
"""Browsers take 4096 bytes with the cookie's name; the oldest sign-in of a browser that begins many is left out."""
MAX_TARGET_CHARS = 1000
STATE_BYTES = 32


class Pending(NamedTuple):
    """One sign-in: its name at the provider, where somebody wants to go, and when it began, in seconds of the clock."""

    state: str
    target: str
    begun_at_s: float


class PendingSignIns:
    """Reads and writes cookies. Each state is good once in this process; a provider takes each code once, too."""

    def __init__(self, secret: str) -> None:
        """``secret``: the dashboard's."""
        self._key = hmac.new(secret.encode(), b"sign-in by a provider", hashlib.sha256).digest()
        self._used: dict[str, float] = {}

    def begin(self, cookie: str | None, target: str, now_s: float) -> tuple[Pending, str]:
        """Returns a new sign-in, and the cookie that holds it beside those that its browser began before."""
        begun = Pending(secrets.token_urlsafe(STATE_BYTES), target if len(target) <= MAX_TARGET_CHARS else "/", now_s)
        kept = [*self._read(cookie, now_s), begun]
        written = self._write(kept)
        while len(written) > MAX_COOKIE_CHARS and len(kept) > 1:
            kept = kept[1:]
            written = self._write(kept)
        return begun, written

    def take(self, cookie: str | None, state: str, now_s: float) -> Pending | None:
        """Returns the sign-in of a state, used up by this; None where this browser did not begin it, began it too long ago, or used it."""
        for old in [one for one, used_at_s in self._used.items() if now_s - used_at_s > PENDING_S]:
            del self._used[old]
        found = next((one for one in self._read(cookie, now_s) if hmac.compare_digest(one.state.encode(), state.encode())), None)
        if found is None or found.state in self._used:
            return None
        self._used[found.state] = now_s
        return found

    def nonce(self, pending: Pending) -> str:
        """Returns what the token of a sign-in has to name."""
        return self._made_from(pending, "nonce")

    def verifier(self, pending: Pending) -> str:
        """Returns what proves at the exchange of the code who began a sign-in (RFC 7636: 43 characters)."""
        return self._made_from(pending, "verifier")

    def _made_from(self, pending: Pending, use: str) -> str:
        made = hmac.new(self._key, f"{use}:{pending.state}".encode(), hashlib.sha256).digest()
        return _text(made)

    def _write(self, kept: list[Pending]) -> str:
        text = _text(json.dumps(kept).encode())
        return f"{text}.{self._signature(text)}"

    def _read(self, cookie: str | None, now_s: float) -> list[Pending]:
        text, _, signature = (cookie or "").rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(text).encode()):
            return []
        known = [Pending(*one) for one in json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))]
        return [one for one in known if now_s - one.begun_at_s <= PENDING_S]

    def _signature(self, text: str) -> str:
        return hmac.new(self._key, text.encode(), hashlib.sha256).hexdigest()


def _text(content: bytes) -> str:
    """Returns bytes as characters that a cookie and an address hold as they are."""
    return base64.urlsafe_b64encode(content).decode().rstrip("=")
