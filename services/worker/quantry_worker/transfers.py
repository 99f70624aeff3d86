"""Runs a blocking transfer so that a cancel, a shutdown or a lost lease does not have to wait for its end."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Generic, TypeVar

import structlog

from quantry_worker.guard import POLL_S, Guard

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


class _Box(Generic[Result]):
    """What came out of the thread: one of the two lists has one entry."""

    def __init__(self) -> None:
        self.results: list[Result] = []
        self.errors: list[Exception] = []


def run_guarded(guard: Guard, work: Callable[[], Result]) -> Result:
    """Returns what ``work`` returns or raises what it raises; raises Stopped as soon as the attempt must end.

    ``work`` runs in a thread of its own, because an S3 or HTTP call cannot be interrupted. When the attempt ends first,
    the thread is left behind: it ends with its current call, and what it wrote belongs to an attempt that nobody reads.
    """
    box: _Box[Result] = _Box()
    # With the context of this one: what its log lines name, and the span that it works for.
    thread = threading.Thread(target=copy_context().run, args=(_run, work, box), name="transfer", daemon=True)
    thread.start()
    while thread.is_alive():
        guard.check()
        thread.join(POLL_S)
    guard.check()
    if box.errors:
        raise box.errors[0]
    return box.results[0]


def _run(work: Callable[[], Result], box: _Box[Result]) -> None:
    try:
        box.results.append(work())
    except Exception as error:
        log.debug("a transfer ended with an error", error=repr(error))
        box.errors.append(error)
