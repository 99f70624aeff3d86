# Made from quantry/aio/resources/projects.py by make_sync.py: change that file, and run this again.
"""All projects, for admins of the platform project."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from quantry.messages import path_part
from quantry.paging import every
from quantry.transport import Transport
from quantry_core.pages import DEFAULT_LIMIT, Page
from quantry_core.projects import NewProject, Project, ProjectChange, ProjectLimits, ProjectRequest

_PATH = "/api/v1/projects"
_NO_LIMITS = ProjectLimits()


class Projects:
    """``client.projects``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self, *, after: str | None = None, limit: int = DEFAULT_LIMIT) -> Page[Project]:
        """Returns one page of projects, archived ones included, newest first."""
        return self._transport.get(Page[Project], _PATH, {"after": after, "limit": limit})

    def iterate(self, *, max_items: int | None = None) -> Generator[Project, None, None]:
        """Yields every project, newest first, at most ``max_items``. Pages are asked for as they are needed."""
        return every(lambda after, limit: self.list(after=after, limit=limit), max_items)

    def create(self, name: str, limits: ProjectLimits = _NO_LIMITS) -> NewProject:
        """Makes a project and returns it with the secret of its first admin's key, which is never shown again."""
        return self._transport.post(NewProject, _PATH, ProjectRequest(name=name, limits=limits))

    def get(self, project: str) -> Project:
        """Returns the project of an id or a name."""
        return self._transport.get(Project, f"{_PATH}/{path_part(project)}")

    def change(self, project: str, **changes: Any) -> Project:
        """Changes what is given of ``share``, ``max_queued``, ``max_running`` (None: no bound) and ``is_archived``; returns the project."""
        return self._transport.patch(Project, f"{_PATH}/{path_part(project)}", ProjectChange(**changes))

    def archive(self, project: str) -> Project:
        """Has a project take no new jobs; what runs, serves and is kept goes on. Undone by ``change(project, is_archived=False)``."""
        return self.change(project, is_archived=True)
