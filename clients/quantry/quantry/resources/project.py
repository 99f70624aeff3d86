# Made from quantry/aio/resources/project.py by make_sync.py: change that file, and run this again.
"""The project of this client's key."""

from __future__ import annotations

from quantry.transport import Transport
from quantry_core.projects import Project as ProjectView

_PATH = "/api/v1/project"


class Project:
    """``client.project``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self) -> ProjectView:
        """Returns the project: its share of the workers, its limits, and how many jobs are where."""
        return self._transport.get(ProjectView, _PATH)
