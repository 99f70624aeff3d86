"""Settings of the api from the environment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from quantry_api.settings import ApiSettings
from quantry_core.jobs import Resource


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.startswith("QUANTRY_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("QUANTRY_BROKER_URL", "redis://:hush@127.0.0.1:6379/0")
    return monkeypatch


def test_the_environment_is_read(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("QUANTRY_IMPORT_ROOTS", os.pathsep.join(["/models", "/data/more"]))
    environment.setenv("QUANTRY_IMPORT_BUCKETS", "models, more-models")
    environment.setenv("QUANTRY_API_PORT", "9001")
    environment.setenv("QUANTRY_LEASE_S", "30")
    settings = ApiSettings()
    assert settings.import_roots == [Path("/models"), Path("/data/more")]
    assert settings.import_buckets == ["models", "more-models"]
    assert (settings.api_port, settings.lease_s, settings.heartbeat_s, settings.sweep_interval_s) == (9001, 30, 4, 5)


def test_queues_are_read_with_their_memory(environment: pytest.MonkeyPatch) -> None:
    assert [queue.name for queue in ApiSettings().queues] == ["cpu", "gpu"]
    environment.setenv("QUANTRY_QUEUES", "cpu=16GiB, cpu-large, gpu-80g=80GiB")
    environment.setenv("QUANTRY_DEFAULT_RESOURCE", "gpu")
    settings = ApiSettings()
    assert [(queue.name, queue.max_memory_bytes) for queue in settings.queues] == [
        ("cpu", 16 * 1024**3),
        ("cpu-large", None),
        ("gpu-80g", 80 * 1024**3),
    ]
    assert settings.default_resource is Resource.GPU


def test_no_roots_is_none_allowed(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("QUANTRY_IMPORT_ROOTS", "")
    assert ApiSettings().import_roots == []


def test_the_broker_password_is_not_printed(environment: pytest.MonkeyPatch) -> None:
    assert "hush" not in repr(ApiSettings())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("QUANTRY_IMPORT_ROOTS", "models"),
        ("QUANTRY_LEASE_S", "0"),
        ("QUANTRY_HEARTBEAT_S", "45"),
        ("QUANTRY_API_PORT", "70000"),
        ("QUANTRY_QUEUES", "tpu"),
        ("QUANTRY_QUEUES", "cpu=plenty"),
        ("QUANTRY_QUEUES", "cpu,cpu"),
        # No queue for what jobs need by default, none for imports.
        ("QUANTRY_DEFAULT_RESOURCE", "tpu"),
        ("QUANTRY_QUEUES", "gpu"),
    ],
)
def test_settings_that_cannot_work_are_refused(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(name, value)
    with pytest.raises(ValidationError):
        ApiSettings()
