"""Who may read /metrics: whoever reaches the port, or, where a token is set, whoever holds it."""

from __future__ import annotations

import hmac

from pydantic import SecretStr


def may_read(authorization: str | None, token: SecretStr | None) -> bool:
    """Tells whether a request with this ``Authorization`` may read metrics."""
    if token is None:
        return True
    scheme, _, given = (authorization or "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.get_secret_value().encode())
