"""Keys of encryption at rest, as settings give them: Fernet (AES-128-CBC with HMAC-SHA256)."""

from __future__ import annotations

from cryptography.fernet import Fernet, MultiFernet
from pydantic import SecretStr


def fernet_of(keys: SecretStr, variable: str) -> MultiFernet:
    """Returns what encrypts with the first of comma-separated keys (32 random bytes each, URL-safe base64) and opens what any of
    them encrypted, so that a key can be changed; raises ValueError naming the variable and quoting no key."""
    parts = [part.strip() for part in keys.get_secret_value().split(",") if part.strip()]
    if not parts:
        raise ValueError(f"{variable} holds no key; leave it unset where nothing may be kept that needs one")
    fernets = []
    for position, part in enumerate(parts, start=1):
        try:
            fernets.append(Fernet(part))
        except ValueError:
            # Without its cause: that may quote a part of the key.
            raise ValueError(f"key {position} of {variable} is none: it takes 32 bytes as URL-safe base64") from None
    return MultiFernet(fernets)
