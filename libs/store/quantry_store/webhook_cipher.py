"""Encryption of what a webhook must not show: its secret, and its address. Each is bound to its webhook."""

from __future__ import annotations

from typing import Final, Self

from cryptography.fernet import InvalidToken, MultiFernet
from pydantic import SecretStr

from quantry_store.fernet_keys import fernet_of

KEYS_VARIABLE: Final = "QUANTRY_WEBHOOK_KEYS"


class WebhookCipher:
    """Encrypts with the first of its keys and opens what any of them encrypted, so that a key can be changed."""

    def __init__(self, fernet: MultiFernet) -> None:
        self._fernet = fernet

    @classmethod
    def of(cls, keys: SecretStr) -> Self:
        """Returns the cipher of comma-separated Fernet keys; raises ValueError, which quotes none."""
        return cls(fernet_of(keys, KEYS_VARIABLE))

    def encrypt(self, webhook_id: str, text: str) -> bytes:
        """Returns what is stored of a webhook's text."""
        return self._fernet.encrypt(f"{webhook_id}\n{text}".encode())

    def decrypt(self, webhook_id: str, ciphertext: bytes) -> str | None:
        """Returns the text; None where it was encrypted by a key that is not here, changed since, or written for another webhook."""
        try:
            owner, _, text = self._fernet.decrypt(ciphertext).decode().partition("\n")
        except (InvalidToken, UnicodeDecodeError):
            return None
        return text if owner == webhook_id else None
