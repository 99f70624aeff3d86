# Made from quantry/aio/resources/sessions.py by make_sync.py: change that file, and run this again.
"""Sessions: a sign-in by the provider of the installation, as a short-lived key."""

from __future__ import annotations

from quantry.transport import Transport
from quantry_core.oidc import NewSession, SessionRequest

_PATH = "/api/v1/sessions"


class Sessions:
    """``client.sessions``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, id_token: str, nonce: str) -> NewSession:
        """Returns a key for whoever the provider's token is about, with its secret. The key of this client is not looked at.

        A token is taken once, within minutes. Raises ApiError: 401 for a token that is not taken, 403 where no group gives a role.
        """
        return self._transport.post(NewSession, _PATH, SessionRequest(id_token=id_token, nonce=nonce))

    def end(self) -> None:
        """Revokes the key of this client, where a sign-in made it."""
        self._transport.delete(f"{_PATH}/current")
