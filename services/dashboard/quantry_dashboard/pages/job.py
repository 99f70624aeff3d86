"""/jobs/<id>: one job with everything that is known of it, live while it is not over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

from fastapi import Request
from nicegui import ui

from quantry_core.jobs import FINAL_STATUSES, EventKind, FinetuneSpec, Job, JobEvent, JobStatus
from quantry_dashboard import facts, words
from quantry_dashboard.asking import NotDone, ask
from quantry_dashboard.feed import EventFeed
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.arriving import Arriving
from quantry_dashboard.pages.artifacts import ArtifactPanel
from quantry_dashboard.pages.graph import JobGraph
from quantry_dashboard.pages.job_actions import JobActions
from quantry_dashboard.pages.log_panel import LOG_LINES, LogPanel
from quantry_dashboard.pages.measured import MeasuredPanel
from quantry_dashboard.pages.panels import EstimatePanel, FactPanel, Timeline
from quantry_dashboard.pages.parts import add_crumbs, copyable
from quantry_dashboard.pages.pipeline import pipeline_address
from quantry_dashboard.pages.progress_bar import ProgressBar
from quantry_dashboard.pages.training import MAX_POINTS, CheckpointPanel, CurvePanel
from quantry_dashboard.sessions import Session

REFRESH_S = 1.0
LOG_EVERY = 2
"""The log is read at each second refresh, and so are the curve and the checkpoints of a training job."""
PIPELINE_EVERY = 4
"""The other jobs of its pipeline are read at each fourth refresh."""
TIMELINE_KINDS = (EventKind.STATE, EventKind.NOTE)


def show(session: Session, request: Request) -> None:
    """Builds the page of the job that the address names."""
    JobPage(session, request.path_params["job_id"]).build()


class JobPage:
    """One open page. Its feed's thread ends when the page is closed or hidden, or the job is over."""

    def __init__(self, session: Session, job_id: str) -> None:
        self._session = session
        self._job_id = job_id
        self._feed: EventFeed | None = None
        self._num_refreshes = 0
        self._names: dict[str, str] = {}
        self._ended: Job | None = None
        """The job as it ended, once all but what it measured is shown."""
        self._is_over = False
        self._is_closed = False

    def build(self) -> None:
        """Builds the page; the job comes with the first refresh, once the browser is connected."""
        self._loop = asyncio.get_running_loop()
        self._frame = Frame(self._session, title=f"Job {words.short_id(self._job_id)}", address=f"/jobs/{self._job_id}")
        with self._frame.content:
            add_crumbs(("Jobs", "/jobs"), here=self._job_id, is_id=True)
            self._arriving = Arriving(self._frame)
            with self._arriving.add_body():
                self._build_header()
                self._build_panels()
        self._timer = self._arriving.refresh_every(REFRESH_S, self._refresh)
        self._frame.when_hidden(self._pause)
        ui.context.client.on_delete(self._close)

    def _build_header(self) -> None:
        with Node("section", classes="panel header", aria_label="Status"):
            with Node("div", classes="heading"):
                self._title = Node("h1")
                self._actions = JobActions(self._session, self._frame, self._job_id, self._refresh)
            with Node("div", classes="state", role="status"):
                self._status = Node("span", classes="status")
                self._reason = Node("span", classes="reason")
            self._explanation = Node("p", classes="explanation")
            self._bar = ProgressBar("Progress of this job")
            self._details = Node("p", classes="dim details")

    def _build_panels(self) -> None:
        with Node("section", classes="panel", aria_label="Pipeline", hidden="hidden") as self._pipeline:
            with Node("h2"):
                self._pipeline_link = link("Pipeline", "/pipelines")
            self._graph = JobGraph(here=self._job_id)
        with Node("div", classes="columns"):
            with Node("div", classes="column"):
                self._result = FactPanel("Result")
                self._artifacts = ArtifactPanel(self._job_id)
                self._measured = MeasuredPanel()
                self._estimate = EstimatePanel()
                self._circumstances = FactPanel("Job")
                self._spec = FactPanel("Spec")
                self._inputs = FactPanel("Inputs")
            with Node("div", classes="column"):
                self._curve = CurvePanel()
                self._checkpoints = CheckpointPanel()
                self._timeline = Timeline()
                self._log = LogPanel(self._job_id, self._read_log)
                self._build_commands()

    def _build_commands(self) -> None:
        with Node("details", classes="panel"):
            Node("summary", "On the command line")
            with Node("div", classes="commands"):
                for command in ("watch", "show", "logs", "cancel", "retry"):
                    copyable(f"quantry jobs {command} {self._job_id}")

    async def _read_log(self, show_text: Callable[[str], None]) -> None:
        async def read() -> None:
            show_text(await ask(self._session, lambda client: client.jobs.log(self._job_id)))

        await self._frame.attempt(read)

    async def _refresh(self) -> None:
        if self._ended is None:
            await self._refresh_job()
        if self._ended is not None:
            await self._show_measured(self._ended)
            # Nothing about it changes any more.
            self._timer.deactivate()

    async def _refresh_job(self) -> None:
        job = await self._arriving.read(ask(self._session, lambda client: client.jobs.get(self._job_id)))
        self._is_over = job.status in FINAL_STATUSES
        beside = [self._know_names(job)]
        if self._is_over or self._num_refreshes % LOG_EVERY == 0:
            beside.append(self._show_log())
            if isinstance(job.spec, FinetuneSpec):
                beside += [self._show_curve(), self._show_checkpoints()]
        if self._is_over or self._num_refreshes % PIPELINE_EVERY == 0:
            beside.append(self._show_pipeline(job))
        await asyncio.gather(*beside)
        self._num_refreshes += 1
        self._arriving.come()
        self._show(job, datetime.now(UTC))
        self._follow()
        if self._is_over:
            self._ended = job

    async def _show_log(self) -> None:
        self._log.show(await ask(self._session, lambda client: client.jobs.log(self._job_id, tail=LOG_LINES)))

    async def _show_curve(self) -> None:
        curve = await ask(self._session, lambda client: client.jobs.curve(self._job_id, max_points=MAX_POINTS))
        self._curve.show(curve.data)

    async def _show_checkpoints(self) -> None:
        self._checkpoints.show(await ask(self._session, lambda client: client.jobs.checkpoints(self._job_id)))

    async def _know_names(self, job: Job) -> None:
        """Asks what the versions are called that the spec refers to by an id or as a job's output; one that cannot be told keeps that."""
        for given in job.inputs:
            version_id = given.version_id
            if version_id is not None and given.ref not in self._names:
                self._names[given.ref] = ""
                with suppress(NotDone):
                    version = await ask(self._session, lambda client, version_id=version_id: client.versions.get(version_id))  # type: ignore[misc]
                    self._names[given.ref] = version.ref

    def _show(self, job: Job, now: datetime) -> None:
        self._title.say(f"{job.type.capitalize()} {words.about(job, self._names)}")
        self._status.say(job.status)
        self._status.mark_as(f"status {job.status}")
        self._reason.say(words.reason_text(job))
        self._explanation.say(words.explanation(job))
        progress = job.progress if job.status is JobStatus.RUNNING else None
        self._bar.show(progress)
        self._details.say(words.progress_details(progress) if progress is not None else "")
        self._actions.show(job)
        self._result.show(facts.result_facts(job, ()))
        self._estimate.show(facts.comparisons(job), facts.estimate_notes(job.estimate))
        self._circumstances.show(facts.circumstances(job, now))
        self._spec.show(facts.spec_facts(job))
        self._inputs.show(facts.input_facts(job, self._names))

    async def _show_pipeline(self, job: Job) -> None:
        pipeline_id = job.pipeline_id
        if pipeline_id is None:
            return
        pipeline = await ask(self._session, lambda client: client.pipelines.get(pipeline_id))
        jobs = list(pipeline.jobs)
        if job.id not in {other.id for other in jobs}:
            # It was tried again since: the graph has the newer job in its place, and this page is of none that is in it.
            self._pipeline_link.say(f"Pipeline {pipeline.name}: this step was tried again")
        else:
            self._pipeline_link.say(f"Pipeline {pipeline.name}")
        self._pipeline_link.attribute("href", pipeline_address(pipeline_id))
        self._graph.show(jobs)
        self._pipeline.show_if(True)

    async def _show_measured(self, job: Job) -> None:
        """Shows what a job measured, which lies with the registry; raises NotDone where that is away, to be asked again."""
        try:
            measured, artifacts = await asyncio.gather(
                ask(self._session, lambda client: client.jobs.measured(job)),
                ask(self._session, lambda client: client.jobs.artifacts(self._job_id)),
            )
        except NotDone as trouble:
            self._measured.show_trouble(f"could not be read: {trouble}")
            raise
        self._measured.show(measured)
        self._artifacts.show(artifacts)
        self._result.show(facts.result_facts(job, measured))

    def _follow(self) -> None:
        """Starts the feed where none runs; it goes on after the last event that is shown."""
        # The page may have been closed or hidden while its question was under way: nobody would stop the feed then.
        if self._is_closed or not (self._frame.is_visible or self._is_over):
            return
        if self._feed is not None and self._feed.is_running:
            return
        self._feed = EventFeed(
            self._session.client_over, self._job_id, after=self._timeline.last_seq, kinds=TIMELINE_KINDS, deliver=self._deliver
        )
        self._feed.start()

    def _deliver(self, event: JobEvent) -> None:
        """Called in the feed's thread."""
        self._loop.call_soon_threadsafe(self._timeline.add, event)

    def _pause(self) -> None:
        # The feed of a job that is over has an end of its own, and nothing would start it again.
        if not self._is_over:
            self._stop_feed()

    def _close(self) -> None:
        self._is_closed = True
        self._stop_feed()

    def _stop_feed(self) -> None:
        if self._feed is not None:
            self._feed.stop()
            self._feed = None
