"""Captured prompts come out as they went in, with a key of theirs and not without."""

from __future__ import annotations

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from quantry_store.capture_cipher import CaptureCipher

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


def cipher(*keys: str) -> CaptureCipher:
    return CaptureCipher.of(SecretStr(",".join(keys)))


@given(st.text(st.characters()))
def test_what_is_encrypted_is_opened(text: str) -> None:
    sealed = cipher(OLD).encrypt(text)
    assert cipher(f" {NEW} ", OLD).decrypt(sealed) == text


def test_the_first_key_encrypts() -> None:
    sealed = cipher(NEW, OLD).encrypt("hello")
    assert cipher(NEW).decrypt(sealed) == "hello"
    assert cipher(OLD).decrypt(sealed) is None


def test_what_was_changed_is_not_opened() -> None:
    sealed = bytearray(cipher(OLD).encrypt("hello"))
    sealed[20] ^= 1
    assert cipher(OLD).decrypt(bytes(sealed)) is None


@pytest.mark.parametrize(
    ("keys", "words"),
    [("", "holds no key"), (" , ", "holds no key"), (f"{OLD},hunter2", "key 2 of QUANTRY_CAPTURE")],
    ids=["empty", "blank", "second"],
)
def test_a_bad_key_is_refused_without_being_quoted(keys: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        cipher(keys)
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None
