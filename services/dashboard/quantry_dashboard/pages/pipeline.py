"""/pipelines/<id>: the jobs of one pipeline as a graph and as a table, live while it is not over."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from fastapi import Request

from quantry_core.jobs import FINAL_STATUSES, Job, JobStatus
from quantry_core.pipelines import PipelineDetail
from quantry_dashboard import facts, words
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.arriving import Arriving
from quantry_dashboard.pages.confirmed import Question, action_button, ask_before
from quantry_dashboard.pages.graph import JobGraph
from quantry_dashboard.pages.job_cells import JobCells
from quantry_dashboard.pages.listing import Rows, cell
from quantry_dashboard.pages.panels import FactPanel
from quantry_dashboard.pages.parts import add_crumbs
from quantry_dashboard.sessions import Session

REFRESH_S = 2.0
COLUMNS = ("Step", "Type", "About", "Status", "Progress", "Needs", "Duration")
CANCEL = Question(
    "Cancel this pipeline?",
    "Every job of it that has not ended is cancelled; running ones lose what they have done so far.",
    confirm="Cancel the pipeline",
    keep="Keep it",
    is_dangerous=True,
)
AGAIN = Question(
    "Retry what did not succeed?",
    "Each step whose job failed or was cancelled begins again; what the others made is used.",
    confirm="Retry them",
)


def show(session: Session, request: Request) -> None:
    """Builds the page of the pipeline that the address names."""
    PipelinePage(session, request.path_params["pipeline_id"]).build()


def pipeline_address(pipeline_id: str) -> str:
    """Returns where a pipeline's page is."""
    return f"/pipelines/{pipeline_id}"


class PipelinePage:
    """One open page."""

    def __init__(self, session: Session, pipeline_id: str) -> None:
        self._session = session
        self._id = pipeline_id
        self._retry_key = str(uuid.uuid4())
        self._retried: list[str] = []

    def build(self) -> None:
        """Builds the page; the pipeline comes with the first refresh, once the browser is connected."""
        self._frame = Frame(self._session, title=f"Pipeline {words.short_id(self._id)}", address=pipeline_address(self._id))
        with self._frame.content:
            add_crumbs(("Pipelines", "/pipelines"), here=self._id, is_id=True)
            self._arriving = Arriving(self._frame)
            with self._arriving.add_body():
                self._build_header()
                with Node("section", classes="panel", aria_label="Graph"):
                    Node("h2", "Graph")
                    self._graph = JobGraph()
                self._steps = StepTable()
                self._facts = FactPanel("Pipeline")
        self._timer = self._arriving.refresh_every(REFRESH_S, self._refresh)

    def _build_header(self) -> None:
        hindrance = facts.hindrance(self._session.identity)
        with Node("section", classes="panel header", aria_label="Status"):
            with Node("div", classes="heading"):
                self._title = Node("h1")
                with Node("div", classes="actions"):
                    self._cancel = action_button("Cancel", "danger", hindrance)
                    self._again = action_button("Retry", "primary", hindrance)
                    if hindrance is None:
                        ask_before(self._cancel, CANCEL, self._do_cancel)
                        ask_before(self._again, AGAIN, self._do_retry)
                    else:
                        Node("p", hindrance, classes="dim hint")
            with Node("div", classes="state", role="status"):
                self._status = Node("span", classes="status")
                self._counts = Node("span", classes="reason")

    async def _refresh(self) -> None:
        pipeline = await self._arriving.read(ask(self._session, lambda client: client.pipelines.get(self._id)))
        self._show(pipeline)
        # One that is over may go on: with a retry, which this page or another client may ask for.
        self._timer.interval = REFRESH_S if pipeline.status not in FINAL_STATUSES else 5 * REFRESH_S

    def _show(self, pipeline: PipelineDetail) -> None:
        self._title.say(pipeline.name)
        self._status.say(pipeline.status)
        self._status.mark_as(f"status {pipeline.status}")
        self._counts.say(words.counts_text(pipeline.num_jobs))
        self._cancel.show_if(pipeline.status not in FINAL_STATUSES)
        self._again.show_if(pipeline.status in {JobStatus.FAILED, JobStatus.CANCELLED})
        self._graph.show(pipeline.jobs)
        self._steps.show(pipeline.jobs)
        self._facts.show(facts.pipeline_facts(pipeline))
        self._arriving.come()
        ids = [job.id for job in pipeline.jobs]
        if ids != self._retried:
            # Another try is another submission.
            self._retried, self._retry_key = ids, str(uuid.uuid4())

    async def _do_cancel(self) -> None:
        async def cancel() -> None:
            self._show(await ask(self._session, lambda client: client.pipelines.cancel(self._id)))

        await self._frame.attempt(cancel)

    async def _do_retry(self) -> None:
        async def retry() -> None:
            key = self._retry_key
            self._show(await ask(self._session, lambda client: client.pipelines.retry(self._id, idempotency_key=key)))
            self._timer.interval = REFRESH_S

        await self._frame.attempt(retry)


class StepTable:
    """The steps of a pipeline as rows, in an order in which each comes after what it needs."""

    def __init__(self) -> None:
        with (
            Node("section", classes="panel table", aria_label="Steps"),
            Node("table", role="table", aria_label="Steps"),
        ):
            with Node("thead", role="rowgroup"), Node("tr", role="row"):
                for column in COLUMNS:
                    Node("th", column, scope="col", role="columnheader", classes="number" if column == "Duration" else "")
            body = Node("tbody", role="rowgroup")
        self._steps: dict[str, str] = {}
        self._rows = Rows[Job](body, lambda job: job.id, lambda job: _StepRow(job, self._steps))

    def show(self, jobs: Sequence[Job]) -> None:
        """Shows jobs."""
        self._steps |= {job.id: job.step or words.short_id(job.id) for job in jobs}
        self._rows.show(jobs, datetime.now(UTC))


class _StepRow:
    """One step's newest job."""

    def __init__(self, job: Job, steps: dict[str, str]) -> None:
        self.root = Node("tr", role="row")
        with self.root:
            with cell("Step"):
                link(job.step or words.short_id(job.id), f"/jobs/{job.id}", title=job.id)
            self._cells = JobCells(job, job.step or words.short_id(job.id))
            cell("Needs", ", ".join(steps.get(need, words.short_id(need)) for need in job.needs) or "–")
            self._duration = cell("Duration", classes="number")

    def show(self, job: Job, now: datetime) -> None:
        """Shows how the job is."""
        self._cells.show(job)
        self._duration.say(words.run_text(job, now))
