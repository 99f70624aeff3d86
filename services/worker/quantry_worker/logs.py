"""Log lines of the worker's own processes: as every service's, on standard output, Celery's among them."""

from __future__ import annotations

import json
import os
import sys
import warnings
from datetime import UTC, datetime

from billiard.util import get_logger as billiard_logger
from celery import signals
from celery.apps import worker as celery_worker

from quantry_telemetry import logs

SERVICE = "worker"


def configure_logging() -> None:
    """Sets structlog and the standard library's logging up. Called once, before the first process is forked."""
    # One line per HTTP request would bury everything else.
    logs.configure_logging(SERVICE, stream=sys.stdout, quiet=["httpx"])
    _adopt_celery()


def _adopt_celery() -> None:
    """Sends what Celery's processes say the same way."""
    # A receiver, whatever it does, keeps Celery from adding handlers of its own.
    signals.setup_logging.connect(_leave_logging_as_it_is)
    billiard_logger().propagate = True
    # What it says in its signal handlers goes past logging, as bare text.
    celery_worker.safe_say = say_from_handler  # type: ignore[attr-defined]
    # Celery warns when root runs a worker because of pickle; this one reads JSON alone.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")


def say_from_handler(message: str, _file: object = None) -> None:
    """Writes a line as logging would. One write and no lock: a signal handler may have interrupted whoever holds it."""
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    line = {"event": message.strip(), "level": "info", "logger": celery_worker.__name__, "timestamp": now, "service": SERVICE}
    os.write(sys.__stdout__.fileno() if sys.__stdout__ is not None else 1, json.dumps(line).encode() + b"\n")


def _leave_logging_as_it_is(**_: object) -> None:
    """Called in place of Celery's own set-up."""
