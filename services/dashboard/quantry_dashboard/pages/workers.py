"""/workers: what waits in which queue, who works it off with which GPUs, and for the platform's admins the hosts that workers run on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from fastapi import Request

from quantry_core.queue_loads import QueueLoad
from quantry_core.workers import Worker
from quantry_dashboard import words
from quantry_dashboard.administration import is_platform_admin
from quantry_dashboard.asking import ask
from quantry_dashboard.frame import Frame
from quantry_dashboard.nodes import Node, link
from quantry_dashboard.pages.dialogs import PageDialog
from quantry_dashboard.pages.listing import Listing, Rows, address_of, cell
from quantry_dashboard.pages.parts import empty_state
from quantry_dashboard.pages.worker_hosts import HostsPanel
from quantry_dashboard.sessions import Session
from quantry_dashboard.worker_facts import (
    PATH,
    DeviceLine,
    by_presence,
    device_line,
    environments_text,
    is_stuck,
    memory_text,
    oldest_text,
    queue_size_text,
    worker_state,
)

REFRESH_S = 3.0
QUEUE_COLUMNS = ("Queue", "A slot has", "Waiting", "Queued", "Running", "Oldest queued", "Slots")
NUMBERS = ("Waiting", "Queued", "Running", "Slots")


def show(session: Session, _request: Request) -> None:
    """Builds the page of workers and queues."""
    WorkersPage(session).build()


class WorkersPage:
    """One open page."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def build(self) -> None:
        """Builds the page; what it shows comes with the first refresh, once the browser is connected."""
        is_platform = is_platform_admin(self._session.identity)
        self._frame = Frame(self._session, title="Workers", address=PATH)
        with self._frame.content:
            Node("h1", "Workers and queues")
            self._dialog = PageDialog(self._frame)
            whose = "of all projects" if is_platform else "of this project"
            with Node("section", aria_label="Queues", classes="part"):
                Node("h2", "Queues", classes="section-title")
                Node("p", f"Jobs {whose}.", classes="dim")
                self._queues = Listing[QueueLoad](
                    "Queues",
                    QUEUE_COLUMNS,
                    key=lambda queue: queue.name,
                    make_row=_QueueRow,
                    address=lambda _after: PATH,
                    after=None,
                    empty=lambda: empty_state("There are no queues"),
                    numbers=NUMBERS,
                    classes="queues",
                )
            with Node("section", aria_label="Workers", classes="part"):
                Node("h2", "Workers", classes="section-title")
                self._nothing = Node("p", "Loading…", classes="dim", role="status")
                with Node("div", hidden="hidden") as self._empty:
                    empty_state(
                        "No worker was heard of in the last days",
                        "Jobs stay queued until one is there. One on this machine:",
                        "python -m quantry_worker",
                    )
                self._rows = Rows[Worker](Node("div", classes="worker-cards"), lambda worker: worker.id, _WorkerCard)
            self._hosts = HostsPanel(self._session, self._frame, self._dialog) if is_platform else None
        self._frame.refresh_every(REFRESH_S, self._refresh)

    async def _refresh(self) -> None:
        hosts = [] if self._hosts is None else [self._hosts.refresh()]
        try:
            await asyncio.gather(self._refresh_queues(), self._refresh_workers(), *hosts)
        finally:
            self._queues.fail()
            self._nothing.show_if(False)

    async def _refresh_queues(self) -> None:
        self._queues.show(await ask(self._session, lambda client: client.queues.list()), datetime.now(UTC))

    async def _refresh_workers(self) -> None:
        workers = (await ask(self._session, lambda client: client.workers.list())).data
        self._rows.show(by_presence(workers), datetime.now(UTC))
        self._empty.show_if(not workers)


class _QueueRow:
    """One queue."""

    def __init__(self, queue: QueueLoad) -> None:
        with Node("tr", role="row") as self.root:
            with cell("Queue"):
                link(queue.name, address_of("/jobs", queue=queue.name), classes="name")
            cell("A slot has", queue_size_text(queue))
            self._counts: list[tuple[Node, str]] = []
            for column, status in (("Waiting", "waiting"), ("Queued", "queued"), ("Running", "running")):
                with cell(column, classes="number"):
                    address = address_of("/jobs", queue=queue.name, status=status)
                    self._counts.append((link("", address), f"{status} in queue {queue.name}"))
            self._oldest = cell("Oldest queued")
            with cell("Slots", classes="number"):
                self._slots = Node("span")
                self._stuck = Node("span", "nobody works it off", classes="status failed", hidden="hidden")

    def show(self, queue: QueueLoad, _now: datetime) -> None:
        """Shows how a queue is now."""
        for (node, where), count in zip(self._counts, (queue.num_waiting, queue.num_queued, queue.num_running), strict=True):
            node.say(f"{count:,}")
            node.attribute("aria-label", f"{count:,} {where}")
        self._oldest.say(oldest_text(queue))
        self._slots.say(f"{queue.num_slots:,}")
        self._stuck.show_if(is_stuck(queue))


class _WorkerCard:
    """One worker."""

    def __init__(self, worker: Worker) -> None:
        self._devices: list[DeviceLine] = []
        self._jobs: list[str] | None = None
        with Node("section", classes="panel worker-card", aria_label=f"Worker on {worker.host}") as self.root:
            with Node("div", classes="heading"):
                Node("h3", worker.host)
                self._state = Node("span", classes="status")
                self._seen = Node("span", classes="dim aside")
            with Node("dl", classes="facts"):
                self._facts = {name: _fact(name) for name in ("queues", "slots", "memory", "runs in", "version", "process", "id")}
            self._device_list = Node("ul", classes="devices", aria_label=f"GPUs of {worker.host}", hidden="hidden")
            self._job_list = Node("p", classes="runs")

    def show(self, worker: Worker, now: datetime) -> None:
        """Shows a worker as it is now."""
        state = worker_state(worker)
        self._state.say(state.text)
        self._state.mark_as(state.classes)
        self._seen.say(f"seen {words.ago_text(worker.last_seen_at, now)}")
        self._seen.attribute("title", words.moment_text(worker.last_seen_at))
        said = {
            "queues": ", ".join(worker.queues),
            "slots": str(worker.num_slots),
            "memory": memory_text(worker),
            "runs in": environments_text(worker),
            "version": worker.version,
            "process": f"{worker.pid}, for {words.duration_text((now - worker.started_at).total_seconds())}",
            "id": words.short_id(worker.id),
        }
        for name, text in said.items():
            self._facts[name].say(text)
        self._facts["id"].attribute("title", worker.id)
        self._show_devices([device_line(device) for device in worker.devices])
        self._show_jobs(worker.job_ids)

    def _show_devices(self, devices: list[DeviceLine]) -> None:
        if devices == self._devices:
            return
        self._devices = devices
        self._device_list.clear()
        self._device_list.show_if(bool(devices))
        with self._device_list:
            for device in devices:
                with Node("li"):
                    with Node("div", classes="device-head"):
                        Node("span", device.name, classes="name")
                        Node("span", device.details, classes="dim")
                    _add_meter("memory", device.name, device.memory_share)
                    _add_meter("busy", device.name, device.busy_share)

    def _show_jobs(self, job_ids: list[str]) -> None:
        if job_ids == self._jobs:
            return
        self._jobs = job_ids
        self._job_list.clear()
        with self._job_list:
            if not job_ids:
                Node("span", "Runs no job of this project now.", classes="dim")
                return
            Node("span", "Runs ")
            for job_id in job_ids:
                link(words.short_id(job_id), f"/jobs/{job_id}", classes="mono", title=job_id)


def _fact(name: str) -> Node:
    Node("dt", name)
    return Node("dd", "")


def _add_meter(what: str, device: str, share: float | None) -> None:
    if share is None:
        return
    percent = round(100 * share)
    meter = {"role": "meter", "aria_valuemin": "0", "aria_valuemax": "100", "aria_valuenow": str(percent)}
    with Node("div", classes="gauge"):
        Node("span", what, classes="dim", aria_hidden="true")
        with Node("div", classes="meter", aria_label=f"{device}: {what}", **meter):
            Node("div", classes="fill").shape(f"width: {percent}%")
