"""The guarded way out as it looks hosts up; what it lets through is tested with real sockets."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from quantry_blobs import outbound


async def test_a_host_is_looked_up_in_no_thread_that_anything_else_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def resolve(_host: str, _port: int) -> Sequence[str]:
        threads.append(threading.current_thread().name)
        return ["192.0.2.1"]

    monkeypatch.setattr(outbound, "resolve_now", resolve)
    assert await outbound.Lookups()("receiver.example", 443) == ["192.0.2.1"]
    assert threads[0].startswith("lookup"), "not one of the event loop's own, by which the database is found too"
