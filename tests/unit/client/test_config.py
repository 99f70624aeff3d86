"""Where the server and the key come from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantry.config import resolve_connection
from quantry.errors import ConfigurationError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of its own, so that no profile of whoever runs the tests is found."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return tmp_path / "home"


def pair(url: str | None, api_key: str | None, environ: dict[str, str], *, profile: str | None = None) -> tuple[str, str]:
    """Returns which server and which key are used."""
    found = resolve_connection(url, api_key, environ, profile=profile)
    return found.url, found.api_key


def state(folder: Path, **values: str) -> dict[str, str]:
    folder.mkdir(exist_ok=True)
    (folder / "client.json").write_text(json.dumps(values))
    return {"QUANTRY_STATE_DIR": str(folder)}


def test_arguments_come_before_the_environment_and_that_before_the_file(tmp_path: Path) -> None:
    file = state(tmp_path, url="http://file:1", api_key="qtr_file")
    environment = {"QUANTRY_URL": "http://env:2/", "QUANTRY_API_KEY": "qtr_env"}
    assert pair(None, None, file) == ("http://file:1", "qtr_file")
    assert pair(None, None, file | environment) == ("http://env:2", "qtr_env")
    assert pair("https://arg", "qtr_arg", file | environment) == ("https://arg", "qtr_arg")
    assert pair(None, "qtr_arg", file) == ("http://file:1", "qtr_arg")


def test_the_files_key_goes_to_the_files_server_only(tmp_path: Path) -> None:
    file = state(tmp_path, url="http://file:1", api_key="qtr_file")
    assert pair("http://file:1/", None, file)[1] == "qtr_file"
    with pytest.raises(ConfigurationError):
        resolve_connection("http://elsewhere:1", None, file)


def test_the_file_is_looked_for_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state(tmp_path / ".quantry", url="http://here:1", api_key="qtr_here")
    monkeypatch.chdir(tmp_path)
    assert pair(None, None, {})[0] == "http://here:1"


def test_nothing_found_names_every_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as missing:
        resolve_connection(None, None, {"QUANTRY_STATE_DIR": str(tmp_path)})
    for place in ("--api-key", "QUANTRY_API_KEY", "quantry config", str(tmp_path / "client.json")):
        assert place in str(missing.value)


def test_a_key_alone_means_the_default_server(tmp_path: Path) -> None:
    assert pair(None, "qtr_k", {"QUANTRY_STATE_DIR": str(tmp_path)})[0] == "http://127.0.0.1:8000"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"url": "http://x"}', '{"url": 1, "api_key": "k"}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "client.json").write_text(content)
    with pytest.raises(ConfigurationError, match=r"client\.json"):
        resolve_connection(None, None, {"QUANTRY_STATE_DIR": str(tmp_path)})


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://x", "http://", "http://[::1", "http://x:port", "http://x?y=1", "http://x/\x1b[2J", "http://me:word@x"]
)
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ConfigurationError, match=r"http://127\.0\.0\.1:8000"):
        resolve_connection(url, "qtr_k", {})


@pytest.mark.parametrize("key", ["qtr k", "qtr_ä", "qtr_k\n"])
def test_a_key_that_is_none(key: str) -> None:
    with pytest.raises(ConfigurationError, match="API key"):
        resolve_connection("http://x", key, {})
