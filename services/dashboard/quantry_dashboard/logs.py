"""Logging: one JSON object per line on stderr, uvicorn's own lines included."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.typing import EventDict, Processor


def configure_logs() -> None:
    """Sets up structlog and the standard library's logging for this process. Called once, by the main module."""
    shared: list[Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_service,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    # Open pages ask every second or two: a line for each would bury the rest.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # It writes the address of every socket, and that names an open page by the id its messages are believed for.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)


def _add_service(_logger: object, _name: str, event: EventDict) -> EventDict:
    event["service"] = "dashboard"
    return event
