"""Secrets out of files: read once into the environment, refused by name, never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantry_core.secret_files import MAX_SECRET_BYTES, SecretFileRefused, read_secret_files


def test_a_file_stands_for_its_variable(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql+psycopg://user:pass@host/quantry\n")
    environment = {"QUANTRY_DATABASE_URL_FILE": str(tmp_path / "url"), "OTHER_FILE": "/not/ours", "QUANTRY_API_PORT": "1"}
    read_secret_files(environment)
    assert environment["QUANTRY_DATABASE_URL"] == "postgresql+psycopg://user:pass@host/quantry"
    assert "OTHER" not in environment


def test_only_the_last_line_break_goes(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(" a b \nc\r\n")
    environment = {"QUANTRY_KEY_FILE": str(tmp_path / "key")}
    read_secret_files(environment)
    assert environment["QUANTRY_KEY"] == " a b \nc"


def test_an_empty_variable_names_no_file() -> None:
    environment = {"QUANTRY_KEY_FILE": ""}
    read_secret_files(environment)
    assert environment == {"QUANTRY_KEY_FILE": ""}


def test_the_same_value_twice_is_no_contradiction(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("same\n")
    environment = {"QUANTRY_KEY_FILE": str(tmp_path / "key"), "QUANTRY_KEY": "same"}
    read_secret_files(environment)
    read_secret_files(environment)
    assert environment["QUANTRY_KEY"] == "same"


def test_two_values_are_refused_without_showing_either(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("one-secret")
    environment = {"QUANTRY_KEY_FILE": str(tmp_path / "key"), "QUANTRY_KEY": "another-secret"}
    with pytest.raises(SecretFileRefused, match="QUANTRY_KEY and QUANTRY_KEY_FILE are both set") as caught:
        read_secret_files(environment)
    assert "secret" not in str(caught.value).replace("secret_files", "")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not text"),
        (b"a\x00b", "is not text"),
        (b"x" * (MAX_SECRET_BYTES + 1), "is longer than"),
    ],
)
def test_what_is_no_secret_is_refused_by_name(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(SecretFileRefused, match=f"QUANTRY_KEY_FILE: .*key {words}"):
        read_secret_files({"QUANTRY_KEY_FILE": str(tmp_path / "key")})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SecretFileRefused, match=r"QUANTRY_KEY_FILE: .*nowhere cannot be read \(No such file or directory\)"):
        read_secret_files({"QUANTRY_KEY_FILE": str(tmp_path / "nowhere")})
