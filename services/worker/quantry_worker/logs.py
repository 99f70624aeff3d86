"""Log lines of the worker's own processes: one JSON object per line on standard output, Celery's among them."""

from __future__ import annotations

import logging
import sys
import warnings

import structlog
from billiard.util import get_logger as billiard_logger
from celery import signals


def configure_logging() -> None:
    """Sets structlog and the standard library's logging up. Called once, before the first process is forked."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.INFO)
    # One line per HTTP request would bury everything else.
    logging.getLogger("httpx").setLevel(logging.WARNING)
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
