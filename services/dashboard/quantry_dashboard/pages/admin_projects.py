"""/admin/projects: the tenants with their shares and limits; for admins of the platform project."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from fastapi import Request

from quantry_core.projects import Project, ProjectLimits
from quantry_dashboard import words
from quantry_dashboard.administration import (
    PROJECTS,
    number,
    platform_admins_only,
    project_limits_text,
    project_state,
    whole_number,
)
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node
from quantry_dashboard.pages.admin_keys import ONCE
from quantry_dashboard.pages.admin_parts import add_admin_head, refuse
from quantry_dashboard.pages.confirmed import Question, plain_button
from quantry_dashboard.pages.dialogs import Answers, AskedField, PageDialog, Shown
from quantry_dashboard.pages.listing import Listing, address_of, after_of, cell
from quantry_dashboard.pages.parts import empty_state
from quantry_dashboard.sessions import Session

REFRESH_S = 5.0
ROWS = 25
COLUMNS = ("Project", "State", "Limits", "Waiting", "Queued", "Running", "Made", "")
NUMBERS = ("Waiting", "Queued", "Running")


def show(session: Session, request: Request) -> None:
    """Builds the page of projects that follow the one the address names."""
    ProjectsPage(session, after_of(request.query_params)).build()


class ProjectsPage:
    """One open page."""

    def __init__(self, session: Session, after: str | None) -> None:
        self._session = session
        self._after = after

    def build(self) -> None:
        """Builds the page; its projects come with the first refresh, once the browser is connected."""
        self._frame = Frame(self._session, title="Projects", address=address_of(PROJECTS, after=self._after))
        hindrance = platform_admins_only(self._session.identity)
        with self._frame.content:
            actions = add_admin_head(self._session, "Projects", PROJECTS)
            if hindrance is not None:
                refuse(hindrance)
                return
            self._dialog = PageDialog(self._frame)
            with actions:
                plain_button("New project", "primary").on("click", self._ask_create)
            self._listing = Listing[Project](
                "Projects",
                COLUMNS,
                key=lambda project: project.id,
                make_row=lambda project: _Row(project, self),
                address=lambda after: address_of(PROJECTS, after=after),
                after=self._after,
                empty=_empty,
                numbers=NUMBERS,
            )
        self._frame.refresh_every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        await self._listing.read(ask(self._session, lambda client: client.projects.list(after=self._after, limit=ROWS)))

    def _ask_create(self) -> None:
        question = Question(
            "New project", "It gets a first admin's key of its own, whose secret is shown this once.", confirm="Make it", keep="Cancel"
        )
        self._dialog.ask(question, self._create, (AskedField("name", "Name"), *_limit_fields(ProjectLimits())))

    async def _create(self, answers: Answers) -> Shown:
        name = answers.text("name")
        limits = ProjectLimits(**_limits_of(answers))
        made = await ask(self._session, lambda client: client.projects.create(name, limits))
        await self._frame.look(self._refresh)
        return Shown(f"Project {made.project.name} is made", ONCE, {"Key of its first admin": made.admin_key.secret})

    def ask_limits(self, project: Project) -> None:
        """Asks for other limits of a project."""

        async def change(answers: Answers) -> None:
            limits = _limits_of(answers)
            await ask(self._session, lambda client: client.projects.change(project.id, **limits))
            await self._frame.look(self._refresh)

        question = Question(
            f"Limits of {project.name}", "They hold for what is submitted and claimed from now on.", confirm="Set them", keep="Cancel"
        )
        self._dialog.ask(question, change, _limit_fields(project.limits))

    def ask_archive(self, project: Project) -> None:
        """Asks whether a project is to take no new jobs, or to take them again."""
        to_archive = project.archived_at is None
        question = (
            Question(
                f"Archive project {project.name}?",
                "It takes no new jobs. What runs and serves goes on, and all it has stays.",
                confirm="Archive it",
                is_dangerous=True,
            )
            if to_archive
            else Question(f"Take project {project.name} back?", "It takes new jobs again.", confirm="Take it back")
        )
        self._dialog.ask_to(
            question, self._session, lambda client: client.projects.change(project.id, is_archived=to_archive), self._refresh
        )


class _Row:
    """One project."""

    def __init__(self, project: Project, page: ProjectsPage) -> None:
        self._project = project
        with Node("tr", role="row") as self.root:
            with cell("Project"):
                Node("span", project.name, classes="name", title=project.id)
            with cell("State"):
                self._state = Node("span", classes="status")
            self._limits = cell("Limits")
            self._waiting, self._queued, self._running = (cell(column, classes="number") for column in NUMBERS)
            with cell("Made"):
                self._made = Node("time", datetime=project.created_at.isoformat(), title=words.moment_text(project.created_at))
            with cell("", classes="row-actions"):
                limits = plain_button("Limits", label=f"Limits of {project.name}")
                self._archive = plain_button("Archive")
        limits.on("click", lambda: page.ask_limits(self._project))
        self._archive.on("click", lambda: page.ask_archive(self._project))

    def show(self, project: Project, now: datetime) -> None:
        """Shows a project as it is now."""
        self._project = project
        state = project_state(project)
        self._state.say(state.text)
        self._state.mark_as(state.classes)
        self._limits.say(project_limits_text(project.limits))
        for node, count in ((self._waiting, project.num_waiting), (self._queued, project.num_queued), (self._running, project.num_running)):
            node.say(f"{count:,}")
        self._made.say(words.ago_text(project.created_at, now))
        word = "Archive" if project.archived_at is None else "Take back"
        self._archive.say(word)
        self._archive.attribute("aria-label", f"{word} {project.name}")
        self._archive.show_if(not project.is_platform)


def _limit_fields(limits: ProjectLimits) -> tuple[AskedField, ...]:
    return (
        AskedField("share", "Share", f"{limits.share:g}", "where projects compete, running jobs go as these numbers"),
        AskedField("max_queued", "Most queued jobs", _text(limits.max_queued), "jobs beyond wait until there is room; empty: no bound"),
        AskedField("max_running", "Most running jobs", _text(limits.max_running), "jobs beyond stay queued; empty: no bound"),
    )


def _limits_of(answers: Answers) -> dict[str, Any]:
    return {
        "share": number(answers.text("share"), "Share"),
        "max_queued": whole_number(answers.text("max_queued"), "Most queued jobs"),
        "max_running": whole_number(answers.text("max_running"), "Most running jobs"),
    }


def _text(bound: int | None) -> str:
    return "" if bound is None else str(bound)


def _empty() -> AbstractContextManager[object]:
    return empty_state("There are no projects here", "Projects are listed newest first.", "quantry projects create search")
