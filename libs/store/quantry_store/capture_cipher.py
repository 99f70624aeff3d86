"""Encryption of captured prompts: Fernet (AES-128-CBC with HMAC-SHA256). They are stored encrypted or not at all."""

from __future__ import annotations

from typing import Self

from cryptography.fernet import InvalidToken, MultiFernet
from pydantic import SecretStr

from quantry_store.fernet_keys import fernet_of

KEYS_VARIABLE = "QUANTRY_CAPTURE_KEYS"


class CaptureCipher:
    """Encrypts with the first of its keys and opens what any of them encrypted, so that a key can be changed."""

    def __init__(self, fernet: MultiFernet) -> None:
        self._fernet = fernet

    @classmethod
    def of(cls, keys: SecretStr) -> Self:
        """Returns the cipher of comma-separated Fernet keys; raises ValueError, which quotes none."""
        return cls(fernet_of(keys, KEYS_VARIABLE))

    def encrypt(self, text: str) -> bytes:
        """Returns what is stored of a text."""
        return self._fernet.encrypt(text.encode("utf-8", "surrogatepass"))

    def decrypt(self, ciphertext: bytes) -> str | None:
        """Returns the text; None where it was encrypted by a key that is not here, or was changed since."""
        try:
            return self._fernet.decrypt(ciphertext).decode("utf-8", "surrogatepass")
        except InvalidToken:
            return None
