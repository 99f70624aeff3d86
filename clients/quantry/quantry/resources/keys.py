# Made from quantry/aio/resources/keys.py by make_sync.py: change that file, and run this again.
"""API keys. Only an admin key may list, make and revoke them."""

from __future__ import annotations

from collections.abc import Generator
from datetime import datetime

from quantry.messages import path_part
from quantry.paging import every
from quantry.transport import Transport
from quantry_core.keys import ApiKey, KeyLimits, KeyRequest, KeyRotation, NewKey, Role
from quantry_core.pages import DEFAULT_LIMIT, Page

_PATH = "/api/v1/keys"
_NO_LIMITS = KeyLimits()


class Keys:
    """``client.keys``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[ApiKey]:
        """Returns one page of keys, revoked ones included, newest first."""
        return self._transport.get(Page[ApiKey], _PATH, {"after": after, "limit": limit})

    def iterate(self, *, max_items: int | None = None) -> Generator[ApiKey, None, None]:
        """Yields every key, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.list(after=after, limit=limit), max_items)

    def get(self, key_id: str) -> ApiKey:
        """Returns a key: when it was made and used, and until when it holds."""
        return self._transport.get(ApiKey, f"{_PATH}/{path_part(key_id)}")

    def create(self, name: str, role: Role, limits: KeyLimits = _NO_LIMITS, expires_at: datetime | None = None) -> NewKey:
        """Makes a key and returns it with its secret, which is never shown again. ``limits``: what it may ask of the data plane."""
        return self._transport.post(NewKey, _PATH, KeyRequest(name=name, role=role, limits=limits, expires_at=expires_at))

    def rotate(self, key_id: str, *, overlap_s: int = 0, expires_at: datetime | None = None) -> NewKey:
        """Gives a key a new secret and returns it. The old one works for ``overlap_s`` seconds more, by default not at all.

        ``expires_at``: a new moment of expiry; that which it has stays where none is given.
        """
        rotation = KeyRotation(overlap_s=overlap_s, expires_at=expires_at)
        return self._transport.post(NewKey, f"{_PATH}/{path_part(key_id)}/rotate", rotation)

    def revoke(self, key_id: str) -> None:
        """Makes a key worthless at once."""
        self._transport.delete(f"{_PATH}/{path_part(key_id)}")
