# Made from quantry/aio/resources/queues.py by make_sync.py: change that file, and run this again.
"""Queues: what waits where."""

from __future__ import annotations

from quantry.transport import Transport
from quantry_core.pages import Page
from quantry_core.queue_loads import QueueLoad

_PATH = "/api/v1/queues"


class Queues:
    """``client.queues``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Page[QueueLoad]:
        """Returns every queue, on one page, with the jobs of this project; for admins of the platform project, of all projects."""
        return self._transport.get(Page[QueueLoad], _PATH)
