"""Encryption of captured prompts: Fernet (AES-128-CBC with HMAC-SHA256). They are stored encrypted or not at all."""

from __future__ import annotations

from typing import Self

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

KEYS_VARIABLE = "QUANTRY_CAPTURE_KEYS"


class CaptureCipher:
    """Encrypts with the first of its keys and opens what any of them encrypted, so that a key can be changed."""

    def __init__(self, fernet: MultiFernet) -> None:
        self._fernet = fernet

    @classmethod
    def of(cls, keys: SecretStr) -> Self:
        """Returns the cipher of comma-separated Fernet keys (32 random bytes each, URL-safe base64); raises ValueError.

        No message quotes a key.
        """
        parts = [part.strip() for part in keys.get_secret_value().split(",") if part.strip()]
        if not parts:
            raise ValueError(f"{KEYS_VARIABLE} holds no key; leave it unset where no prompt may be captured")
        fernets = []
        for position, part in enumerate(parts, start=1):
            try:
                fernets.append(Fernet(part))
            except ValueError:
                # Without its cause: that may quote a part of the key.
                raise ValueError(f"key {position} of {KEYS_VARIABLE} is none: it takes 32 bytes as URL-safe base64") from None
        return cls(MultiFernet(fernets))

    def encrypt(self, text: str) -> bytes:
        """Returns what is stored of a text."""
        return self._fernet.encrypt(text.encode("utf-8", "surrogatepass"))

    def decrypt(self, ciphertext: bytes) -> str | None:
        """Returns the text; None where it was encrypted by a key that is not here, or was changed since."""
        try:
            return self._fernet.decrypt(ciphertext).decode("utf-8", "surrogatepass")
        except InvalidToken:
            return None
