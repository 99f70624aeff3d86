"""What Celery says in its signal handlers is a log line too; and what a child is told of its trace."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from quantry_core.jobs import ImportSpec
from quantry_worker.environment import child_environment
from quantry_worker.logs import say_from_handler

SPEC = ImportSpec(model="bard", source="/models/bard")
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_signal_handler_says_one_line_of_json(capfd: pytest.CaptureFixture[str]) -> None:
    say_from_handler("worker: Warm shutdown (MainProcess)")
    (line,) = capfd.readouterr().out.splitlines()
    said = json.loads(line)
    assert said.items() >= {"event": "worker: Warm shutdown (MainProcess)", "level": "info", "service": "worker"}.items()
    assert said["timestamp"].endswith("Z")


def test_a_child_is_told_of_its_trace_where_there_is_one() -> None:
    def told(traceparent: str | None) -> dict[str, str]:
        return child_environment(SPEC, parent={}, directory=Path("/srv/worker"), num_threads=1, traceparent=traceparent)

    assert told(TRACEPARENT)["TRACEPARENT"] == TRACEPARENT
    assert "TRACEPARENT" not in told(None)
