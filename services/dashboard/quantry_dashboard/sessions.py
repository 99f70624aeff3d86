"""Who is signed in. The API key stays in this process; the browser holds a signed random name for it and nothing else."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx
from pydantic import SecretStr

from quantry import Client
from quantry_core.keys import Identity


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

    def touch(self) -> None:
        """Notes that it is in use."""
        self.used_at_s = self.clock_s()

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
        """Forgets a session and its key. Its open pages notice at their next question."""
        session.is_over = True
        session.client.close()
        self._sessions.pop(session.id, None)

    def end_all(self) -> None:
        """Ends every session."""
        for session in list(self._sessions.values()):
            self.end(session)

    def _is_idle(self, session: Session) -> bool:
        return self._clock_s() - session.used_at_s > self._max_idle_s

    def _signature(self, session_id: str) -> str:
        return hmac.new(self._secret, session_id.encode(), hashlib.sha256).hexdigest()
