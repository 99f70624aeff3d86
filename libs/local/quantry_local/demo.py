"""``quantry demo``: the steps on a stack of their own, a table, the times and the memory, and nothing left behind."""

from __future__ import annotations

import json
import os
import shlex
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import BaseModel, ValidationError
from rich.console import Console

from quantry.errors import ClientError
from quantry_local.demo_steps import STEPS, Demo, Step, StepFailed
from quantry_local.demo_view import LineView, LiveView, View, result_table
from quantry_local.errors import StackError
from quantry_local.folders import choose_folders, is_empty
from quantry_local.installation import find_installation
from quantry_local.interrupts import Interrupted
from quantry_local.leftovers import find_processes
from quantry_local.memory import MemorySampler
from quantry_local.ports import free_ports
from quantry_local.stack import Options, Stack

RECENT_S = 900.0
"""Environments built at most this long before the demo were built for it: `make demo` does both."""

STOP_TITLE = "stop everything"


class BuildTimes(BaseModel):
    """.venvs/timings.json: what building the environments took, in seconds. ``built`` is empty when they were up to date."""

    download_s: float
    environments_s: float
    built: list[str]


@dataclass(frozen=True)
class Outcome:
    """What became of a demo."""

    demo: Demo
    failure: str | None
    """Which step failed and why; None only if every step truly worked and nothing was left running."""
    kept_in: Path | None
    """Where everything it wrote is, where that was kept."""
    seconds: float
    peak_memory_bytes: int
    """Of all processes together."""

    @property
    def exit_code(self) -> int:
        return 0 if self.failure is None else 1

    def document(self) -> dict[str, object]:
        """Returns what ``demo --json`` prints: versions and jobs as the API answers them."""
        return {
            "failure": self.failure,
            "kept_in": None if self.kept_in is None else str(self.kept_in),
            "seconds": round(self.seconds, 3),
            "peak_memory_bytes": self.peak_memory_bytes,
            "master": self.demo.master and self.demo.master.model_dump(mode="json"),
            "quantized": self.demo.quantized and self.demo.quantized.model_dump(mode="json"),
            "jobs": {name: job.model_dump(mode="json") for name, job in self.demo.jobs.items()},
        }


def run_demo(console: Console, state_dir: Path | None = None) -> Outcome:
    """Runs the demo, tells of it on the console and returns what became of it.

    Raises StackError, having touched nothing, where ``state_dir`` is not the demo's alone.
    """
    started = time.monotonic()
    installation = find_installation()
    build = build_times(installation.root)
    chosen = (state_dir or installation.root / ".quantry" / f"demo-{os.getpid()}").resolve()
    check_fresh(chosen)
    made = [path for path in (chosen, *chosen.parents) if not path.exists()]
    view: View = LiveView(console, [*(step.title for step in STEPS), STOP_TITLE]) if console.is_terminal else LineView(console)
    stack = Stack(Options(chosen, gateway_port=free_ports(1, besides=set())[0], installation=installation), view.note)
    demo = Demo(stack, installation.examples)
    failure: str | None = None
    with MemorySampler(stack.folders.state_dir) as memory:
        try:
            for step in STEPS:
                failure = take(step, demo, view)
                if failure:
                    break
        except BaseException as error:
            # A signal, or a defect. This runs to its end, whatever else is sent.
            stop_failure = stop(stack, view)
            if isinstance(error, Interrupted):
                error.outcome = stop_failure or "nothing was left running"
            raise
        else:
            stop_failure = stop(stack, view)
        finally:
            view.close()
    failure = failure or stop_failure
    kept_in = stack.folders.state_dir if failure and stack.folders.state_dir.exists() else None
    outcome = Outcome(demo, failure, kept_in, time.monotonic() - started, memory.peak_bytes)
    if failure:
        console.print(f"\nThe demo failed. {failure}", soft_wrap=True)
        if kept_in:
            console.print(f"Everything it wrote is kept in {kept_in}", soft_wrap=True)
        return outcome
    show_results(console, demo)
    show_costs(console, build, outcome.seconds, outcome.peak_memory_bytes)
    stack.empty()
    with suppress(OSError):
        for path in made:
            path.rmdir()
    return outcome


def check_fresh(state_dir: Path) -> None:
    """Raises StackError if anything is there that the demo would stop or remove at its end without having made it."""
    folders = choose_folders(state_dir)
    for path in (folders.state_dir, *folders.outside):
        if not is_empty(path):
            raise StackError(f"{path} is not empty, and the demo removes what it worked in; name a new or an empty folder with --state-dir")
    if find_processes(folders.state_dir):
        raise StackError(f"a stack still runs for {state_dir}; stop it with `quantry down --state-dir {shlex.quote(str(state_dir))}`")


def take(step: Step, demo: Demo, view: View) -> str | None:
    """Runs one step; returns None, or what to tell when it failed: the step, the reason, the log to read."""
    started = time.monotonic()
    view.begin(step.title)
    try:
        outcome = step.run(demo, view.progress)
    except StepFailed as error:
        reason, log = error.reason, error.log
    except (StackError, ClientError, httpx.HTTPError, OSError) as error:
        # What a stack error names in its sentence is more exact than anything said here.
        reason, log = str(error) or type(error).__name__, None if isinstance(error, StackError) else demo.stack.log_of("gateway")
    else:
        view.end(outcome, time.monotonic() - started)
        return None
    view.fail(time.monotonic() - started)
    told = f"Step: {step.title}. Reason: {reason.rstrip('.')}."
    return f"{told} Log: {log}" if log else told


def stop(stack: Stack, view: View) -> str | None:
    """Stops the stack and looks whether anything lives on; returns None, or what to tell."""
    started = time.monotonic()
    view.begin(STOP_TITLE)
    try:
        stack.down()
        left = find_processes(stack.folders.state_dir)
    except StackError as error:
        view.fail(time.monotonic() - started)
        return f"Step: {STOP_TITLE}. Reason: {error}. Log: {stack.log_of('supervisord')}"
    if left:
        view.fail(time.monotonic() - started)
        return f"Step: {STOP_TITLE}. Reason: still running: {', '.join(str(process.pid) for process in left)}."
    view.end("nothing is left running", time.monotonic() - started)
    return None


def show_results(console: Console, demo: Demo) -> None:
    if demo.master is None or demo.quantized is None:
        raise StackError("the demo ended without its two versions; please report this")
    console.print()
    console.print(result_table(demo.master, demo.quantized, demo.jobs["import"], demo.jobs["quantize"]))
    console.print("Mean KL and top-1 agreement are taken over the tokens of all four corpora.")


def show_costs(console: Console, build: BuildTimes | None, seconds: float, peak_bytes: int) -> None:
    if build is None:
        console.print("downloads 0.0 s, environments 0.0 s (they were there)")
    else:
        console.print(f"downloads {build.download_s:.1f} s, environments {build.environments_s:.1f} s ({', '.join(build.built)})")
    console.print(f"the rest {seconds:.1f} s; memory of all processes together at most {peak_bytes / 1e9:.2f} GB (PSS, sampled at 1 Hz)")


def build_times(checkout: Path, now: float | None = None) -> BuildTimes | None:
    """Returns what building the environments took if that was just before; None where nothing had to be built."""
    path = checkout / ".venvs" / "timings.json"
    try:
        age_s = (time.time() if now is None else now) - path.stat().st_mtime
        times = BuildTimes.model_validate(json.loads(path.read_text()))
    except (OSError, ValueError, ValidationError):
        return None
    return times if times.built and age_s <= RECENT_S else None
