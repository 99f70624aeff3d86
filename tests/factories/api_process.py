"""The api as a process of its own, as it is run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from factories.servers import free_port

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 15.0


@dataclass
class ApiProcess:
    """An api that can be stopped and started again at the same address. No worker runs: jobs stay queued."""

    environment: dict[str, str]
    log: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it, and returns once it answers."""
        with self.log.open("ab") as output:
            environment = {**os.environ, **self.environment, "QUANTRY_API_PORT": str(self.port)}
            self.process = subprocess.Popen([sys.executable, "-m", "quantry_api"], env=environment, stdout=output, stderr=output)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not self._is_well():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        """Stops it in order."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(STOP_TIMEOUT_S)

    def _is_well(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", trust_env=False).status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def running_api(environment: dict[str, str], log: Path) -> Iterator[ApiProcess]:
    """Starts an api and ends it, whatever happened to it meanwhile."""
    process = ApiProcess(environment, log)
    try:
        process.start()
        yield process
    finally:
        if process.process is not None and process.process.poll() is None:
            process.process.kill()
            process.process.wait()
