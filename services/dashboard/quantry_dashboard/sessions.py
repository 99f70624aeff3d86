"""Who is signed in. The API key stays in this process; the browser holds a signed random name for it and nothing else."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
from pydantic import SecretStr

from quantry import Client
from quantry.errors import ClientError
from quantry.retries import Retries
from quantry_core.keys import Identity

GIVE_BACK_S = 1.5
"""For the API to take a key back, when a session ends or the dashboard does."""
ONCE = Retries(max_attempts=1)


@dataclass
class Session:
    """One sign-in: whose key, and the one client that all its pages share."""

    url: str
    api_key: SecretStr
    identity: Identity
    client: Client
    timeout_s: float
    clock_s: Callable[[], float]
    used_at_s: float
    public_url: str = ""
    """Where people and hosts elsewhere reach the API."""
    person: str | None = None
    """Who signed in by a provider, which made a key for them; None for a key of their own."""
    id: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    is_over: bool = False
    _former: list[Client] = field(default_factory=list)

    def touch(self) -> None:
        """Notes that it is in use."""
        self.used_at_s = self.clock_s()

    def change_key(self, api_key: str) -> None:
        """Goes on with another secret of its key. Questions that are under way end with the former one."""
        self._former.append(self.client)
        self.api_key, self.client = SecretStr(api_key), Client(self.url, api_key, self.timeout_s)

    def give_back_key(self) -> None:
        """Revokes the key that a sign-in by a provider made, and no other; where the API is away it ends by itself, some hours later."""
        person, self.person = self.person, None
        if person is not None:
            with suppress(ClientError), Client(self.url, self.api_key.get_secret_value(), GIVE_BACK_S, retries=ONCE) as client:
                client.sessions.end()

    def close(self) -> None:
        """Ends it: from now on it asks nothing."""
        self.is_over = True
        for client in (self.client, *self._former):
            client.close()

    def client_over(self, transport: httpx.BaseTransport, sleep: Callable[[float], None]) -> Client:
        """Returns a client of its own for a stream, over a transport that can be stopped. The caller closes it."""
        return Client(self.url, self.api_key.get_secret_value(), self.timeout_s, transport=transport, sleep=sleep)


class Sessions:
    """The sessions of this process. They end with it: then people sign in again."""

    def __init__(self, secret: SecretStr, *, max_idle_s: float, max_sessions: int, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._secret = secret.get_secret_value().encode()
        self._max_idle_s = max_idle_s
        self._max_sessions = max_sessions
        self._clock_s = clock_s
        self._sessions: dict[str, Session] = {}
        self._giving: list[threading.Thread] = []

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(
        self,
        url: str,
        api_key: str,
        identity: Identity,
        client: Client,
        *,
        timeout_s: float,
        public_url: str = "",
        person: str | None = None,
    ) -> str:
        """Returns the cookie's value of a new session. Ends those that were idle for too long, and the oldest if there are too many."""
        session = Session(url, SecretStr(api_key), identity, client, timeout_s, self._clock_s, self._clock_s(), public_url or url, person)
        for idle in [known for known in self._sessions.values() if self._is_idle(known)]:
            self.end(idle)
        while len(self._sessions) >= self._max_sessions:
            self.end(min(self._sessions.values(), key=lambda known: known.used_at_s))
        self._sessions[session.id] = session
        return f"{session.id}.{self._signature(session.id)}"

    def find(self, cookie: str | None) -> Session | None:
        """Returns the session of a cookie, or None where there is none, it is forged, or it has ended."""
        session_id, _, signature = (cookie or "").rpartition(".")
        if not hmac.compare_digest(signature.encode(), self._signature(session_id).encode()):
            return None
        session = self._sessions.get(session_id)
        if session is None:
            return None
        if self._is_idle(session):
            self.end(session)
            return None
        session.touch()
        return session

    def end(self, session: Session) -> None:
        """Forgets a session and its key, which is revoked where a sign-in made it. Its open pages notice at their next question."""
        session.close()
        if self._sessions.pop(session.id, None) is not None and session.person is not None:
            # Not in this thread: it may be that of the event loop.
            giving = threading.Thread(target=session.give_back_key, name="give-back-key", daemon=True)
            giving.start()
            self._giving = [*(one for one in self._giving if one.is_alive()), giving]

    def end_all(self) -> None:
        """Ends every session; waits for a moment that keys are given back."""
        for session in list(self._sessions.values()):
            self.end(session)
        until_s = time.monotonic() + GIVE_BACK_S
        for giving in self._giving:
            giving.join(max(0.0, until_s - time.monotonic()))

    def _is_idle(self, session: Session) -> bool:
        return self._clock_s() - session.used_at_s > self._max_idle_s

    def _signature(self, session_id: str) -> str:
        return hmac.new(self._secret, session_id.encode(), hashlib.sha256).hexdigest()
