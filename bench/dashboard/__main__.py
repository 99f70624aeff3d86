"""``python -m bench.dashboard``: prints the table and writes bench/results/dashboard.json and .md. Takes some minutes.

One stack with its real services, a history of 10,000 jobs and 1,000 versions, one deployment of a quick engine, and Chromium on the same
machine, whose own work is part of every figure.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.dashboard.browsing import Person, Seconds, browser
from bench.dashboard.history import NUM_JOBS, NUM_VERSIONS, write_history
from bench.dashboard.views import SHELL, STATIC, VIEWS, View
from bench.embedded import MODEL, ROOT, Measured, embedded_stack
from bench.report import Row, middle, publish, row, versions
from quantry_core.jobs import DeploySpec, ImportSpec, JobSpec, JobStatus

NUM_REPETITIONS = 5
GOAL_S = 1.5
TABS = (0, 10, 50)
SETTLE_S = 5.0
"""Until what was opened or closed has settled: the server takes a page for closed after 3 s without its socket."""

ENGINE = ROOT / "tests" / "chaos" / "fake_server.py"
TABS_VIEW = next(view for view in VIEWS if view.name == "jobs")
SETTINGS = {"QUANTRY_ENGINE_PYTHON": sys.executable, "QUANTRY_ENGINE_SCRIPT": str(ENGINE)}


class Timed(NamedTuple):
    """One view: medians, and what the API takes alone for what it asks before it is painted."""

    view: View
    cold_s: float
    warm_s: float
    api_s: float


class Held(NamedTuple):
    """Proportional memory of the dashboard's process in bytes: by the number of open tabs, once all are closed, with them open again."""

    by_tabs: dict[int, int]
    closed: int
    again: int
    """With the most tabs open a second time: what is kept is used again, or it is a leak."""

    @property
    def per_tab(self) -> float:
        """Bytes that one more tab takes, of the most that were open."""
        return (self.by_tabs[TABS[-1]] - self.by_tabs[0]) / TABS[-1]


def main() -> int:
    """Returns 1 where a first view takes longer than the goal."""
    with embedded_stack(SETTINGS) as measured, browser() as running:
        _succeed(measured, ImportSpec(model=MODEL, source=str(_source(measured))))
        _succeed(measured, DeploySpec(deployment="bard", version=f"{MODEL}@1"))
        write_history(measured)
        (dashboard,) = (part for part in measured.stack.status() if part.name == "dashboard")
        person = Person(running, dashboard.address, measured.api_key)
        static = _median(person, STATIC, is_signed_in=True)
        shell = _median(person, SHELL, is_signed_in=False)
        timed = [_timed(measured, person, view) for view in VIEWS]
        framework = _held(person, dashboard.pid, SHELL, is_signed_in=False)
        ours = _held(person, dashboard.pid, TABS_VIEW, is_signed_in=True)
    rows = [line for one in timed for line in _view_rows(one, static)]
    rows += [
        row(f"{SHELL.name}, cold", shell.cold, static.cold, "s", floor=STATIC.name, bound="NiceGUI's scripts, parsed by the browser"),
        *_memory_rows(ours, framework),
    ]
    details = {
        "num_jobs": NUM_JOBS,
        "num_versions": NUM_VERSIONS,
        "api_s": {one.view.name: one.api_s for one in timed},
        "static_s": static._asdict(),
        "dashboard_pss_bytes": {str(count): held for count, held in ours.by_tabs.items()} | {"closed": ours.closed, "again": ours.again},
        "framework_pss_bytes": {str(count): held for count, held in framework.by_tabs.items()}
        | {"closed": framework.closed, "again": framework.again},
    }
    title = f"The dashboard beside {NUM_JOBS} jobs and {NUM_VERSIONS} versions"
    publish("dashboard", title, rows, libraries=versions("nicegui", "uvicorn", "playwright"), details=details)
    slow = [one.view.name for one in timed if one.cold_s > GOAL_S]
    print(f"first views of more than {GOAL_S:g} s: {', '.join(slow) or 'none'}")
    return int(bool(slow))


def _source(measured: Measured) -> Path:
    source = measured.scratch / MODEL
    source.mkdir()
    for file in (ROOT / "examples" / MODEL).iterdir():
        (source / file.name).write_bytes(file.read_bytes())
    return source


def _succeed(measured: Measured, spec: JobSpec) -> None:
    job = measured.client.jobs.wait(measured.client.jobs.submit(spec).id, 300, poll_s=0.2)
    if job.status is not JobStatus.SUCCEEDED:
        raise RuntimeError(f"the {spec.type} job ended as {job.status}: {job.message}")


def _median(person: Person, view: View, *, is_signed_in: bool) -> Seconds:
    looks = [person.looks_at(view, is_signed_in=is_signed_in) for _ in range(NUM_REPETITIONS)]
    return Seconds(middle([one.cold for one in looks]), middle([one.warm for one in looks]))


def _timed(measured: Measured, person: Person, view: View) -> Timed:
    seconds = _median(person, view, is_signed_in=True)
    return Timed(view, seconds.cold, seconds.warm, middle([_asked_s(measured, view) for _ in range(NUM_REPETITIONS)]))


def _asked_s(measured: Measured, view: View) -> float:
    began_s = time.perf_counter()
    for question in view.questions:
        question(measured.client)
    return time.perf_counter() - began_s


def _held(person: Person, pid: int, view: View, *, is_signed_in: bool) -> Held:
    """Measures a process with more and more tabs open."""

    def with_tabs(num_tabs: int) -> int:
        with person.keeps_open(view, num_tabs, is_signed_in=is_signed_in):
            time.sleep(SETTLE_S)
            return pss_bytes(pid)

    by_tabs = {num_tabs: with_tabs(num_tabs) for num_tabs in TABS}
    time.sleep(2 * SETTLE_S)
    closed = pss_bytes(pid)
    return Held(by_tabs, closed, with_tabs(TABS[-1]))


def pss_bytes(pid: int) -> int:
    """Returns a process's proportional set size: what it shares with others counts in part."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024


def _view_rows(one: Timed, static: Seconds) -> Sequence[Row]:
    bound = f"the browser runs NiceGUI's scripts; the API alone takes {one.api_s * 1000:.0f} ms for what is asked"
    return [
        row(f"{one.view.name}, cold", one.cold_s, static.cold, "s", goal=f"< {GOAL_S:g} s", floor=STATIC.name, bound=bound),
        row(f"{one.view.name}, warm", one.warm_s, static.warm, "s", goal=f"< {GOAL_S:g} s", floor=STATIC.name, bound=bound),
    ]


def _memory_rows(ours: Held, framework: Held) -> list[Row]:
    base = ours.by_tabs[0]
    return [
        row(
            f"server's memory for one open tab of {TABS_VIEW.name}, of {TABS[-1]}",
            ours.per_tab / 1e6,
            framework.per_tab / 1e6,
            "MB",
            floor=f"a tab of {SHELL.name}",
            bound="NiceGUI keeps every element of an open page on the server: 25 rows of the list are 300 of them",
        ),
        row(
            f"server's memory once {TABS[-1]} tabs are closed",
            ours.closed / 1e6,
            base / 1e6,
            "MB",
            floor="the same process before they were opened",
            bound="what the allocator keeps for the next ones",
        ),
        row(
            f"server's memory with {TABS[-1]} tabs open a second time",
            ours.again / 1e6,
            ours.by_tabs[TABS[-1]] / 1e6,
            "MB",
            goal="about 1",
            floor="the first time",
            bound="nothing of the first ones is left: what was kept is used again",
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
