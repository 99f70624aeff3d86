"""Log lines: JSON, the same from every service, with what the work at hand is about and without secrets."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from quantry_core.traces import carrying
from quantry_telemetry.logs import configure_logging

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Where the lines go; logging is as it was afterwards."""
    root = logging.getLogger()
    before = (root.handlers[:], root.level, structlog.get_config())
    monkeypatch.setenv("QUANTRY_WORKER_TOKEN", "the-token-of-this-test")
    yield io.StringIO()
    root.handlers[:], root.level = before[0], before[1]
    structlog.configure(**before[2])
    structlog.contextvars.clear_contextvars()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_each_line_says_what_it_is_about(stream: io.StringIO) -> None:
    configure_logging("spec", stream=stream)
    with structlog.contextvars.bound_contextvars(request_id="r1", job_id="job_1", attempt=2), carrying(f"00-{TRACE}-b7ad6b7169203331-01"):
        structlog.get_logger("ours").info("hello", number=1)
        logging.getLogger("theirs").warning("care %s", "fully")
    structlog.get_logger("ours").info("later")
    ours, theirs, later = lines(stream)
    about = {"service": "spec", "request_id": "r1", "job_id": "job_1", "attempt": 2, "trace_id": TRACE}
    assert ours.items() >= {"event": "hello", "number": 1, "level": "info", "logger": "ours", **about}.items()
    assert theirs.items() >= {"event": "care fully", "level": "warning", "logger": "theirs", **about}.items()
    assert not {"request_id", "job_id", "trace_id"} & later.keys()


def test_no_secret_is_written_though_an_error_quotes_it(stream: io.StringIO) -> None:
    configure_logging("spec", stream=stream)
    try:
        raise ValueError("cannot use redis://:hunter2hunter2@redis:6379/0 with the-token-of-this-test")
    except ValueError:
        structlog.get_logger("ours").exception("broke", header="Bearer qtr_0123456789abcdef")
    said = stream.getvalue()
    assert not any(secret in said for secret in ("hunter2hunter2", "the-token-of-this-test", "0123456789abcdef"))
    (line,) = lines(stream)
    assert "ValueError: cannot use redis://[redacted]@redis" in line["exception"]


def test_quiet_loggers_say_warnings_alone(stream: io.StringIO) -> None:
    configure_logging("spec", stream=stream, quiet=["chatty"])
    try:
        logging.getLogger("chatty").info("one of many")
        logging.getLogger("chatty").warning("rare")
    finally:
        logging.getLogger("chatty").setLevel(logging.NOTSET)
    assert [line["event"] for line in lines(stream)] == ["rare"]
