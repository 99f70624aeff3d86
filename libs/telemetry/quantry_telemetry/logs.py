"""Log lines: one JSON object per line, the same from every service, from our code and from libraries."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import TextIO

import structlog
from structlog.typing import EventDict, Processor

from quantry_core.traces import carried_traceparent, parse_traceparent
from quantry_telemetry.blotting import Blotter, secrets_of


def configure_logging(service: str, *, level: str = "INFO", stream: TextIO | None = None, quiet: Iterable[str] = ()) -> None:
    """Sends structlog and the standard library's loggers to ``stream`` (standard error where None), one JSON object per line.

    Called once, by a main module. Every line carries ``service``; within a request also ``request_id`` and, once its key is known,
    ``key_id`` and ``project_id``; within an attempt ``job_id`` and ``attempt``; within a trace ``trace_id``. Loggers named in ``quiet``
    say warnings and worse alone. Secrets that this process's environment holds, and whatever looks like one, are blotted out.
    """

    def add_service(_logger: object, _name: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        add_service,
        _add_trace,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                structlog.processors.JSONRenderer(),
                _blotted(Blotter(secrets_of())),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in quiet:
        logging.getLogger(name).setLevel(logging.WARNING)


def _add_trace(_logger: object, _name: str, event: EventDict) -> EventDict:
    context = parse_traceparent(carried_traceparent())
    if context is not None:
        event["trace_id"] = context.trace_id
    return event


def _blotted(blotter: Blotter) -> Processor:
    """Returns the last step: the whole line as text goes through it, whatever put the secret there."""

    def blot(_logger: object, _name: str, line: EventDict) -> str:
        return blotter.blot(str(line))

    return blot
