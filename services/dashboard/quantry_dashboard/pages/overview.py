"""/: what runs, what failed, what serves, and what needs a person. Each panel says for itself where it cannot be told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from fastapi import Request

from quantry_core.jobs import Job, JobStatus
from quantry_core.pages import MAX_LIMIT
from quantry_core.projects import Project
from quantry_core.rollouts import Deployment
from quantry_core.schedules import Schedule
from quantry_core.versions import Version, VersionState
from quantry_core.workers import Worker
from quantry_dashboard import facts, words
from quantry_dashboard.asking import NotDone, ask
from quantry_dashboard.attention import Matter, capacity_texts, matters
from quantry_dashboard.deployments import deployment_address, rollout_address
from quantry_dashboard.deployments import state_text as deployment_state
from quantry_dashboard.facts import Fact
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.listing import Rows
from quantry_dashboard.pages.progress_bar import ProgressBar
from quantry_dashboard.pages.rollout_panels import FactList, ShareBar
from quantry_dashboard.rollouts import STATE_CLASSES
from quantry_dashboard.rollouts import state_text as rollout_state
from quantry_dashboard.serving import parts_of
from quantry_dashboard.serving_reader import ServingReader
from quantry_dashboard.sessions import Session

REFRESH_S = 3.0
SLOW_EVERY = 5
"""What changes seldom is read at each fifth refresh."""
NUM_SHOWN = 8


def show(session: Session, _request: Request) -> None:
    """Builds the overview."""
    OverviewPage(session).build()


class OverviewPage:
    """One open overview."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._num_refreshes = 0
        self._deployments: Sequence[Deployment] = ()
        self._workers: Sequence[Worker] = ()
        self._readers: dict[str, ServingReader] = {}
        self._quarantined: Sequence[Version] = ()
        self._schedules: Sequence[Schedule] = ()

    def build(self) -> None:
        """Builds the page; what it shows comes with the first refresh, once the browser is connected."""
        self._frame = Frame(self._session, title="Overview", address="/")
        with self._frame.content:
            with Node("div", classes="heading page-heading"):
                Node("h1", "Overview")
                if facts.hindrance(self._session.identity) is None:
                    link("New job", "/jobs/new", classes="button primary")
            with Node("div", classes="overview"):
                with Node("div", classes="column"):
                    self._matters = _Panel("Needs a person", "Nothing waits for anybody.")
                    self._running = _Panel("Runs", "No job runs.", more=("All running", "/jobs?status=running"))
                    self._failed = _Panel("Failed lately", "No job has failed.", more=("All failed", "/jobs?status=failed"))
                with Node("div", classes="column"):
                    self._serving = _Panel("Serves", "Nothing is deployed.", more=("Deployments", "/deployments"))
                    self._capacity = _Panel("Queues and workers", "", more=("Workers", "/workers"))
            self._build_lists()
        self._frame.refresh_every(REFRESH_S, self._refresh)

    def _build_lists(self) -> None:
        self._running_rows = Rows[Job](self._running.body, lambda job: job.id, _RunningJob)
        self._failed_rows = Rows[Job](self._failed.body, lambda job: job.id, _FailedJob)
        self._serving_rows = Rows[Deployment](
            self._serving.body, lambda deployment: deployment.id, lambda deployment: _Served(deployment, self._reader(deployment.name))
        )
        self._matter_rows = Rows[Matter](self._matters.body, lambda matter: matter.href, _MatterRow)
        with self._capacity.body:
            self._facts = FactList()

    async def _refresh(self) -> None:
        is_slow_turn = self._num_refreshes % SLOW_EVERY == 0
        self._num_refreshes += 1
        slow = [self._matters.fill(self._read_matters)] if is_slow_turn else []
        asked = [
            self._running.fill(self._read_running),
            self._failed.fill(self._read_failed),
            self._serving.fill(self._read_serving),
            self._capacity.fill(self._read_capacity),
        ]
        await asyncio.gather(*asked, *slow)
        # Of all that was read: what is wrong with deployments and workers comes with the others.
        self._show_matters()

    async def _read_running(self) -> int:
        page = await ask(self._session, lambda client: client.jobs.list(status=JobStatus.RUNNING, limit=NUM_SHOWN))
        self._running_rows.show(page.data, datetime.now(UTC))
        return len(page.data)

    async def _read_failed(self) -> int:
        page = await ask(self._session, lambda client: client.jobs.list(status=JobStatus.FAILED, limit=NUM_SHOWN))
        self._failed_rows.show(page.data, datetime.now(UTC))
        return len(page.data)

    async def _read_serving(self) -> int:
        page = await ask(self._session, lambda client: client.deployments.list(limit=NUM_SHOWN))
        self._deployments = page.data
        # What the candidate is called; of one without a rollout nothing is asked.
        await asyncio.gather(*(self._reader(one.name).know_releases(one, one.active_rollout) for one in page.data))
        self._serving_rows.show(page.data, datetime.now(UTC))
        return len(page.data)

    def _reader(self, name: str) -> ServingReader:
        return self._readers.setdefault(name, ServingReader(self._session, name))

    async def _read_capacity(self) -> int:
        project, workers = await asyncio.gather(
            ask(self._session, lambda client: client.project.get()), ask(self._session, lambda client: client.workers.list())
        )
        self._workers = workers.data
        self._facts.show(_capacity_facts(project, self._workers))
        return 1

    async def _read_matters(self) -> int:
        schedules, listed = await asyncio.gather(
            ask(self._session, lambda client: client.schedules.list(limit=MAX_LIMIT)),
            ask(self._session, lambda client: client.versions.list(state=VersionState.QUARANTINED, limit=NUM_SHOWN)),
        )
        self._schedules, self._quarantined = schedules.data, listed.data
        return self._show_matters()

    def _show_matters(self) -> int:
        now = datetime.now(UTC)
        found = matters(self._deployments, self._quarantined, self._schedules, self._workers, now)
        self._matter_rows.show(list({matter.href: matter for matter in found}.values()), now)
        self._matters.count(len(found))
        return len(found)


class _Panel:
    """A heading, a list of entries, and what stands in its place where there is none or it cannot be told."""

    def __init__(self, heading: str, nothing: str, *, more: tuple[str, str] | None = None) -> None:
        with Node("section", classes="panel", aria_label=heading):
            with Node("div", classes="heading"):
                Node("h2", heading)
                if more is not None:
                    link(more[0], more[1], classes="more-link")
            self._nothing = Node("p", "Loading…", classes="dim")
            self._said_nothing = nothing
            self._trouble = Node("p", classes="dim trouble", hidden="hidden")
            self.body = Node("div", classes="entries")

    async def fill(self, read: Callable[[], Awaitable[int]]) -> None:
        """Has ``read`` fill the body and tell how many entries there are."""
        try:
            num_entries = await read()
        except NotDone as trouble:
            self._nothing.show_if(False)
            self._trouble.say(f"Not up to date: {trouble}")
            self._trouble.show_if(True)
            return
        self._trouble.show_if(False)
        self.count(num_entries)

    def count(self, num_entries: int) -> None:
        """Says so where there is no entry."""
        self._nothing.say(self._said_nothing)
        self._nothing.show_if(not num_entries)


class _RunningJob:
    """A job that runs."""

    def __init__(self, job: Job) -> None:
        self.root = Node("div", classes="entry-row")
        with self.root:
            with Node("div", classes="entry-head"):
                link(f"{job.type.capitalize()} {words.about(job)}", f"/jobs/{job.id}", classes="cut", title=job.id)
                self._since = Node("span", classes="dim aside")
            self._bar = ProgressBar(f"Progress of job {words.short_id(job.id)}")
            self._details = Node("span", classes="dim small")

    def show(self, job: Job, now: datetime) -> None:
        """Shows where it is."""
        self._bar.show(job.progress)
        self._details.say(words.progress_details(job.progress) if job.progress is not None else words.reason_text(job))
        self._since.say(words.run_text(job, now))


class _FailedJob:
    """A job that failed, and why."""

    def __init__(self, job: Job) -> None:
        self.root = Node("div", classes="entry-row")
        with self.root:
            with Node("div", classes="entry-head"):
                link(f"{job.type.capitalize()} {words.about(job)}", f"/jobs/{job.id}", classes="cut", title=job.id)
                self._ago = Node("span", classes="dim aside")
            with Node("div", classes="small"):
                Node("span", words.reason_text(job), classes="status failed")
                Node("span", words.explanation(job), classes="why")

    def show(self, job: Job, now: datetime) -> None:
        """Shows how long ago that was."""
        self._ago.say(words.ago_text(job.finished_at or job.created_at, now))


class _Served:
    """A deployment with its shares."""

    def __init__(self, deployment: Deployment, reader: ServingReader) -> None:
        self._reader = reader
        self.root = Node("div", classes="entry-row")
        with self.root:
            with Node("div", classes="entry-head"):
                link(deployment.name, deployment_address(deployment.name), classes="cut")
                self._rollout = link("", "#", classes="status", hidden="hidden")
                self._state = Node("span", classes="status")
            self._shares = ShareBar()
            self._replicas = Node("span", classes="dim small")

    def show(self, deployment: Deployment, _now: datetime) -> None:
        """Shows what serves."""
        state = deployment_state(deployment)
        self._state.say(state)
        self._state.mark_as("status succeeded" if state == "serves" else "status")
        self._shares.show(parts_of(deployment, self._reader.releases))
        wanted = "" if deployment.num_wanted is None else f" of {deployment.num_wanted}"
        self._replicas.say(f"{deployment.num_ready}{wanted} replicas ready")
        rollout = deployment.active_rollout
        self._rollout.show_if(rollout is not None)
        if rollout is not None:
            self._rollout.say(f"rollout {rollout_state(rollout)}")
            self._rollout.mark_as(f"status {STATE_CLASSES[rollout.state]}")
            self._rollout.attribute("href", rollout_address(deployment.name, rollout))


class _MatterRow:
    """Something that needs a person."""

    def __init__(self, matter: Matter) -> None:
        self.root = Node("div", classes="entry-row")
        with self.root:
            with Node("div", classes="entry-head"):
                link(matter.name, matter.href, classes="cut")
                Node("span", matter.kind, classes="status waiting")
            self._why = Node("span", classes="small why")

    def show(self, matter: Matter, _now: datetime) -> None:
        """Shows why."""
        self._why.say(matter.sentence)


def _capacity_facts(project: Project, workers: Sequence[Worker]) -> list[Fact]:
    num_workers, slots, devices = capacity_texts(workers)
    return [
        Fact("running", str(project.num_running), "/jobs?status=running"),
        Fact("queued", str(project.num_queued), "/jobs?status=queued"),
        Fact("waiting", str(project.num_waiting), "/jobs?status=waiting"),
        Fact("workers", num_workers, "/workers"),
        Fact("slots", slots),
        Fact("GPUs", devices),
    ]
