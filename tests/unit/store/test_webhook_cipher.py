"""What a webhook must not show comes out for that webhook alone, with a key of theirs and not without."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from quantry_store.webhook_cipher import WebhookCipher

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


def cipher(*keys: str) -> WebhookCipher:
    return WebhookCipher.of(SecretStr(",".join(keys)))


@given(st.text())
def test_what_is_encrypted_is_opened(text: str) -> None:
    sealed = cipher(OLD).encrypt("whk_1", text)
    assert cipher(NEW, OLD).decrypt("whk_1", sealed) == text
    assert cipher(NEW).decrypt("whk_1", sealed) is None


def test_a_row_cannot_be_given_another_ones_secret() -> None:
    assert cipher(OLD).decrypt("whk_2", cipher(OLD).encrypt("whk_1", "whsec_x")) is None


def test_what_was_changed_or_emptied_is_not_opened() -> None:
    sealed = bytearray(cipher(OLD).encrypt("whk_1", "x"))
    sealed[-1] ^= 1
    assert cipher(OLD).decrypt("whk_1", bytes(sealed)) is None
    assert cipher(OLD).decrypt("whk_1", b"") is None


@pytest.mark.parametrize(
    ("keys", "words"),
    [("", "QUANTRY_WEBHOOK_KEYS holds no key"), (f"{OLD},hunter2", "key 2 of QUANTRY_WEBHOOK_KEYS")],
    ids=["none", "no key"],
)
def test_a_bad_key_is_named_and_not_quoted(keys: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        WebhookCipher.of(SecretStr(keys))
    assert "hunter2" not in str(refused.value)
