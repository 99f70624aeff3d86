"""Log lines of the worker's own processes: as every service's, on standard output, Celery's among them."""

from __future__ import annotations

import sys
import warnings

from billiard.util import get_logger as billiard_logger
from celery import signals

from quantry_telemetry import logs


def configure_logging() -> None:
    """Sets structlog and the standard library's logging up. Called once, before the first process is forked."""
    # One line per HTTP request would bury everything else.
    logs.configure_logging("worker", stream=sys.stdout, quiet=["httpx"])
    _adopt_celery()


def _adopt_celery() -> None:
    """Sends what Celery's processes say the same way."""
    # A receiver, whatever it does, keeps Celery from adding handlers of its own.
    signals.setup_logging.connect(_leave_logging_as_it_is)
    billiard_logger().propagate = True
    # Celery warns when root runs a worker because of pickle; this one reads JSON alone.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")


def _leave_logging_as_it_is(**_: object) -> None:
    """Called in place of Celery's own set-up."""
