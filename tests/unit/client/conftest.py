"""What the command's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from factories.client import KEY, URL, FakeServer
from factories.command import build_once
from quantry.cli import context, plugins
from quantry.cli import main as command


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeServer:
    """A server that the command finds by the environment; no plugin is there."""
    fake = FakeServer()
    monkeypatch.setattr(context, "Client", fake.client)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [])
    monkeypatch.setattr(command, "build_app", build_once)
    monkeypatch.setenv("QUANTRY_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("QUANTRY_PROFILE", raising=False)
    monkeypatch.setenv("QUANTRY_URL", URL)
    monkeypatch.setenv("QUANTRY_API_KEY", KEY)
    return fake


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written goes to a wide terminal with colours, which is redrawn."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
