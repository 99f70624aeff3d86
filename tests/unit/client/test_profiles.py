"""Profiles: where they come in the order of places, who may read them, and that no key of theirs is ever printed."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from factories.client import FakeServer, answer
from factories.command import run
from quantry.config import resolve_connection
from quantry.errors import ConfigurationError
from quantry.profiles import Profile, Profiles, profiles_path, read_profiles, write_profiles

SECRET = "qtr_prod-secret"
PROD = Profile(url="https://prod.test", api_key=SecretStr(SECRET))
STAGING = Profile(url="https://staging.test", api_key=SecretStr("qtr_staging"))


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """Two profiles, prod in use, and no embedded stack."""
    environ = {"XDG_CONFIG_HOME": str(tmp_path / "config"), "QUANTRY_STATE_DIR": str(tmp_path / "state")}
    write_profiles(profiles_path(environ), Profiles(profiles={"prod": PROD, "staging": STAGING}, current="prod"))
    return environ


def found(environ: dict[str, str], *, url: str | None = None, api_key: str | None = None, profile: str | None = None) -> tuple[str, str]:
    connection = resolve_connection(url, api_key, environ, profile=profile)
    return connection.url, connection.api_key


def with_stack(environ: dict[str, str]) -> dict[str, str]:
    """Adds what ``quantry up`` writes."""
    folder = Path(environ["QUANTRY_STATE_DIR"])
    folder.mkdir(exist_ok=True)
    (folder / "client.json").write_text(json.dumps({"url": "http://127.0.0.1:8321", "api_key": "qtr_stack"}))
    return environ


def test_what_is_nearer_comes_first(environ: dict[str, str]) -> None:
    variables = {"QUANTRY_URL": "http://env:1", "QUANTRY_API_KEY": "qtr_env"}
    everywhere = with_stack(environ) | variables | {"QUANTRY_PROFILE": "staging"}
    assert found(everywhere, url="http://arg:1", api_key="qtr_arg", profile="prod") == ("http://arg:1", "qtr_arg")
    assert found(everywhere, profile="prod") == ("https://prod.test", SECRET)
    assert found(everywhere) == ("http://env:1", "qtr_env")
    assert found(environ | {"QUANTRY_PROFILE": "staging"}) == ("https://staging.test", "qtr_staging")
    assert found(environ) == ("http://127.0.0.1:8321", "qtr_stack")
    (Path(environ["QUANTRY_STATE_DIR"]) / "client.json").unlink()
    assert found(environ) == ("https://prod.test", SECRET)


def test_a_key_is_never_sent_to_another_server_than_that_it_was_kept_with(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=r"http://elsewhere:1"):
        found(environ, url="http://elsewhere:1", profile="prod")
    with pytest.raises(ConfigurationError):
        found(environ | {"QUANTRY_URL": "http://elsewhere:1", "QUANTRY_PROFILE": "prod"})
    assert found(environ | {"QUANTRY_URL": "https://prod.test/"}) == ("https://prod.test", SECRET)
    assert found(environ, api_key="qtr_other", profile="prod") == ("https://prod.test", "qtr_other")


def test_it_is_told_where_address_and_key_were_found(environ: dict[str, str]) -> None:
    connection = resolve_connection(None, None, environ | {"QUANTRY_PROFILE": "staging"})
    assert (connection.url_from, connection.key_from) == ("the profile staging, by QUANTRY_PROFILE",) * 2


@pytest.mark.parametrize("change", [{"QUANTRY_PROFILE": "nobody"}, {}])
def test_a_profile_that_is_not_there_names_those_that_are(environ: dict[str, str], change: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match=r"'nobody'; there are: prod, staging"):
        found(environ | change, profile=None if change else "nobody")


def test_the_file_is_nobody_elses(environ: dict[str, str]) -> None:
    path = profiles_path(environ)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["profiles.json"]
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match=r"chmod 600"):
        read_profiles(path)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"profiles": {"a": {}}}', '{"profiles": {"a": {"url": "http://x", "api_key": ["qtr_secret"]}}}', '{"x": 1}']
)
def test_a_damaged_file_is_named_and_nothing_of_it_shown(environ: dict[str, str], content: str) -> None:
    path = profiles_path(environ)
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=r"profiles\.json") as damaged:
        read_profiles(path)
    assert "qtr_secret" not in str(damaged.value)
    assert damaged.value.__cause__ is None


def test_a_relative_folder_of_settings_is_ignored() -> None:
    assert profiles_path({"XDG_CONFIG_HOME": "here", "HOME": "/home/ann"}) == Path("/home/ann/.config/quantry/profiles.json")
    assert profiles_path({"XDG_CONFIG_HOME": "/etc/xdg", "HOME": "/home/ann"}) == Path("/etc/xdg/quantry/profiles.json")


def test_no_profile_shows_its_key() -> None:
    assert SECRET not in repr(PROD) + str(PROD.model_dump()) + repr(Profiles(profiles={"prod": PROD}))


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(f"{SECRET}\n")
    return path


@pytest.mark.usefixtures("server")
def test_the_commands_from_first_to_last(capsys: pytest.CaptureFixture[str], key_file: Path) -> None:
    assert run("config", "list") == 0
    assert "no profiles" in capsys.readouterr().out
    for name, url in (("prod", "https://prod.test/"), ("staging", "https://staging.test")):
        assert run("config", "set-profile", name, "--url", url, "--key-file", str(key_file)) == 0
    assert run("config", "use", "staging") == 0
    assert run("config", "list", "--json") == 0
    out = capsys.readouterr().out
    listed = json.loads(out[out.index("{") :])
    assert listed["current"] == "staging"
    assert [(one["name"], one["url"]) for one in listed["data"]] == [("prod", "https://prod.test"), ("staging", "https://staging.test")]
    assert run("config", "show", "prod") == 0
    assert run("config", "show", "prod", "--json") == 0
    assert run("config", "list") == 0
    assert run("config", "delete-profile", "staging") == 0
    out += (captured := capsys.readouterr()).out + captured.err
    assert "https://prod.test" in out
    assert SECRET not in out
    assert run("config", "use", "staging") == 2
    assert "there are: prod" in capsys.readouterr().err


def test_what_would_be_used_is_shown_with_where_it_was_found(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("config", "show", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown == {"name": None, "url": "http://quantry.test:8000", "url_from": "the environment", "key_from": "the environment"}
    assert server.requests == []


@pytest.mark.usefixtures("server")
@pytest.mark.parametrize("key", ["", "qtr key", "qtr_ä"])
def test_a_key_that_is_none_is_not_kept(capsys: pytest.CaptureFixture[str], key_file: Path, key: str) -> None:
    key_file.write_text(key)
    assert run("config", "set-profile", "prod", "--url", "https://prod.test", "--key-file", str(key_file)) == 2
    assert run("config", "set-profile", "../prod", "--url", "https://prod.test", "--key-file", str(key_file)) == 2
    assert run("config", "list") == 0
    assert "no profiles" in capsys.readouterr().out


def test_the_profile_of_the_command_line_is_what_the_client_gets(
    server: FakeServer, capsys: pytest.CaptureFixture[str], key_file: Path
) -> None:
    assert run("config", "set-profile", "prod", "--url", "https://prod.test", "--key-file", str(key_file)) == 0
    server.on("GET", "/api/v1/jobs", answer({"data": []}))
    assert run("--profile", "prod", "jobs", "list") == 0
    assert run("--profile", "nobody", "jobs", "list") == 2
    assert "nobody" in capsys.readouterr().err
