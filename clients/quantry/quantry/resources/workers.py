# Made from quantry/aio/resources/workers.py by make_sync.py: change that file, and run this again.
"""Workers: who runs jobs."""

from __future__ import annotations

from quantry.transport import Transport
from quantry_core.pages import Page
from quantry_core.workers import Worker

_PATH = "/api/v1/workers"


class Workers:
    """``client.workers``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Page[Worker]:
        """Returns every worker that was heard of in the last days, on one page, each with the jobs of this project that it runs."""
        return self._transport.get(Page[Worker], _PATH)
