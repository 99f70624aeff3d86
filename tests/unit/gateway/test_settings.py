"""Settings from the environment."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
from pydantic import ValidationError

from quantry_gateway.__main__ import allow_connections, server_config
from quantry_gateway.settings import GatewaySettings

NEEDED = {
    "QUANTRY_API_URL": "http://127.0.0.1:1/",
    "QUANTRY_REGISTRY_URL": "http://127.0.0.1:2",
    "QUANTRY_GATEWAY_TOKEN": "qtr_secret",
    "QUANTRY_GATEWAY_STATE_DIR": "/state",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in NEEDED.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_they_come_from_the_environment_and_do_not_tell_the_token(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("QUANTRY_GATEWAY_PORT", "8123")
    settings = GatewaySettings()
    assert settings.api_url == "http://127.0.0.1:1"
    assert settings.gateway_port == 8123
    assert settings.gateway_state_dir == Path("/state")
    assert settings.gateway_max_body_bytes == 10 * 1024 * 1024
    assert "qtr_secret" not in repr(settings)


def test_they_are_frozen(environment: pytest.MonkeyPatch) -> None:
    settings = GatewaySettings()
    with pytest.raises(ValidationError):
        settings.__setattr__("gateway_port", 1)


def test_as_many_connections_are_allowed_as_the_system_lets() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] // 2, before[1]))
    try:
        allow_connections()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (before[1], before[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(("given", "is_believed"), [("", False), ("10.0.0.1", True)])
def test_forwarded_addresses_are_believed_only_from_named_proxies(environment: pytest.MonkeyPatch, given: str, is_believed: bool) -> None:
    environment.setenv("QUANTRY_GATEWAY_TRUSTED_PROXIES", given)
    assert server_config(GatewaySettings()).proxy_headers is is_believed


def test_answers_under_way_have_the_exit_grace(environment: pytest.MonkeyPatch) -> None:
    assert server_config(GatewaySettings()).timeout_graceful_shutdown == 2
    environment.setenv("QUANTRY_GATEWAY_EXIT_GRACE_S", "43")
    assert server_config(GatewaySettings()).timeout_graceful_shutdown == 43
