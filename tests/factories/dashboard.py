"""A dashboard as a process of its own, as it is run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

from factories.servers import free_port

START_S = 30.0


class RunningDashboard(NamedTuple):
    """Where it answers, and its process."""

    url: str
    pid: int


@contextmanager
def running_dashboard(control_url: str, directory: Path, **settings: str) -> Iterator[RunningDashboard]:
    """Starts a dashboard for an API and stops it at the end, within its own time."""
    port = int(settings.get("QUANTRY_DASHBOARD_PORT") or free_port())
    environment = {
        "PATH": os.defpath,
        "QUANTRY_CONTROL_URL": control_url,
        "QUANTRY_DASHBOARD_PORT": str(port),
        # A key that must never sign anybody in.
        "QUANTRY_API_KEY": "qtr_operator",
        **settings,
    }
    log = directory / "dashboard.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "quantry_dashboard"], env=environment, cwd=directory, stdout=output, stderr=output
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_up(url, process, log)
        yield RunningDashboard(url, process.pid)
        process.terminate()
        # uvicorn stops in order and then ends by the signal it was sent.
        assert process.wait(10) == -signal.SIGTERM, log.read_text()
        assert '"level": "error"' not in log.read_text(), log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def _wait_until_up(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            if httpx.get(f"{url}/healthz", trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert process.poll() is None and time.monotonic() < deadline, f"the dashboard did not start:\n{log.read_text()}"
        time.sleep(0.1)
