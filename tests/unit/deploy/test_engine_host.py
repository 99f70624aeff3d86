"""Where engines of a host listen."""

from __future__ import annotations

import socket

import pytest

from quantry_core.errors import Unavailable
from quantry_deploy.drivers.process import _address_of


def test_an_address_is_itself_and_a_name_what_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostbyname", lambda host: {"engines": "172.20.0.5"}.get(host, host))
    assert _address_of("127.0.0.1") == "127.0.0.1"
    assert _address_of("engines") == "172.20.0.5"


def test_a_name_that_nobody_knows_is_told_with_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_host: str) -> str:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "gethostbyname", unknown)
    with pytest.raises(Unavailable, match=r"'engines' \(QUANTRY_ENGINE_HOST\), which is no host here: Name or service not known"):
        _address_of("engines")
