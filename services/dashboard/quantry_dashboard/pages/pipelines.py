"""/pipelines: pages of pipelines, newest first."""

from __future__ import annotations

from datetime import datetime

from fastapi import Request

from quantry_core.pipelines import Pipeline
from quantry_dashboard import words
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.filtering import filters
from quantry_dashboard.pages.listing import Listing, address_of, cell
from quantry_dashboard.pages.parts import empty_state
from quantry_dashboard.pages.pipeline import pipeline_address
from quantry_dashboard.sessions import Session

PATH = "/pipelines"
REFRESH_S = 3.0
COLUMNS = ("Pipeline", "Name", "Status", "Jobs", "Labels", "Created")


def show(session: Session, request: Request) -> None:
    """Builds the list as the address filters it."""
    given = {name: value.strip() for name, value in request.query_params.items() if value.strip()}
    PipelinesPage(session, given.get("labels"), given.get("schedule_id"), given.get("after")).build()


class PipelinesPage:
    """One open list."""

    def __init__(self, session: Session, labels: str | None, schedule_id: str | None, after: str | None) -> None:
        self._session = session
        self._labels = labels
        self._schedule_id = schedule_id
        self._after = after

    def build(self) -> None:
        """Builds the page; its pipelines come with the first refresh, once the browser is connected."""
        self._frame = Frame(self._session, title="Pipelines", address=self._address(self._after))
        is_narrowed = bool(self._labels or self._schedule_id)
        with self._frame.content:
            Node("h1", "Pipelines")
            with filters("Filter pipelines", self._address_with, PATH if is_narrowed else None) as fields:
                fields.add_text("labels", "Labels", self._labels, "team=search,!draft")
                if self._schedule_id is not None:
                    fields.add_text("schedule_id", "Schedule", self._schedule_id)
            self._listing = Listing[Pipeline](
                "Pipelines",
                COLUMNS,
                key=lambda pipeline: pipeline.id,
                make_row=_Row,
                address=self._address,
                after=self._after,
                empty=lambda: empty_state(
                    "There are no pipelines yet",
                    "Several jobs in one file, each of which may use what others make, are submitted with:",
                    "quantry pipelines submit pipeline.yaml",
                ),
                none_such=(lambda: empty_state("No pipeline is like that")) if is_narrowed else None,
            )
        self._frame.refresh_every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        await self._listing.read(
            ask(
                self._session,
                lambda client: client.pipelines.list(after=self._after, labels=self._labels, schedule_id=self._schedule_id),
            )
        )

    def _address(self, after: str | None) -> str:
        return address_of(PATH, labels=self._labels, schedule_id=self._schedule_id, after=after)

    def _address_with(self, name: str, value: str) -> str:
        held = {"labels": self._labels, "schedule_id": self._schedule_id, name: value.strip()}
        return address_of(PATH, **held)


class _Row:
    """A row of the list."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.root = Node("tr", role="row")
        with self.root:
            with cell("Pipeline"):
                link(words.short_id(pipeline.id), pipeline_address(pipeline.id), classes="mono", title=pipeline.id)
            cell("Name", pipeline.name)
            with cell("Status"):
                self._status = Node("span", classes="status")
            self._jobs = cell("Jobs")
            cell("Labels", words.labels_text(pipeline.labels))
            with cell("Created"):
                self._created = Node("time", datetime=pipeline.created_at.isoformat(), title=words.moment_text(pipeline.created_at))

    def show(self, pipeline: Pipeline, now: datetime) -> None:
        """Shows how a pipeline is."""
        self._status.say(pipeline.status)
        self._status.mark_as(f"status {pipeline.status}")
        self._jobs.say(words.counts_text(pipeline.num_jobs))
        self._created.say(words.ago_text(pipeline.created_at, now))
