"""Settings of the api from the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from quantry_api.settings import ApiSettings


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.startswith("QUANTRY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("QUANTRY_BROKER_URL", "redis://:hush@127.0.0.1:6379/0")
    return monkeypatch


def test_the_environment_is_read(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("QUANTRY_IMPORT_ROOTS", os.pathsep.join(["/models", "/data/more"]))
    environment.setenv("QUANTRY_API_PORT", "9001")
    environment.setenv("QUANTRY_LEASE_S", "30")
    settings = ApiSettings()
    assert settings.import_roots == [Path("/models"), Path("/data/more")]
    assert (settings.api_port, settings.lease_s, settings.heartbeat_s, settings.sweep_interval_s) == (9001, 30, 10, 5)


def test_no_roots_is_none_allowed(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("QUANTRY_IMPORT_ROOTS", "")
    assert ApiSettings().import_roots == []


def test_the_broker_password_is_not_printed(environment: pytest.MonkeyPatch) -> None:
    assert "hush" not in repr(ApiSettings())


@pytest.mark.parametrize(
    ("name", "value"),
    [("QUANTRY_IMPORT_ROOTS", "models"), ("QUANTRY_LEASE_S", "0"), ("QUANTRY_HEARTBEAT_S", "45"), ("QUANTRY_API_PORT", "70000")],
)
def test_settings_that_cannot_work_are_refused(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(name, value)
    with pytest.raises(ValidationError):
        ApiSettings()
