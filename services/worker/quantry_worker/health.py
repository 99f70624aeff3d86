"""Whether the worker is up: ``python -m quantry_worker.health`` exits 0 if it is, 1 with a sentence if not.

Once it takes work, the main process writes its pid and the time since boot into ``<work folder>/worker.alive`` every five
seconds, from a thread. It does so also while Redis is away: a worker that waits for its broker is healthy, and to restart it
would end the jobs in its slots.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from quantry_worker.guard import worker_clock
from quantry_worker.settings import HealthSettings
from quantry_worker.work_dir import WorkDir

WRITE_INTERVAL_S = 5.0
MAX_AGE_S = 20.0


class Liveness:
    """Writes the file until the process ends."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def start(self) -> None:
        """Begins to write. In the main process only: forks do not have the thread."""
        threading.Thread(target=self._run, name="liveness", daemon=True).start()

    def _run(self) -> None:
        while True:
            write_alive(self._file, pid=os.getpid(), now=worker_clock())
            threading.Event().wait(WRITE_INTERVAL_S)


def write_alive(file: Path, *, pid: int, now: float) -> None:
    """Writes that process ``pid`` was alive at ``now`` (seconds since boot)."""
    incoming = file.with_suffix(".new")
    incoming.write_text(json.dumps({"pid": pid, "since_boot_s": now}))
    incoming.replace(file)


def trouble(file: Path, now: float) -> str | None:
    """Returns what is wrong with the worker whose file this is; None if it is up."""
    try:
        alive = json.loads(file.read_text())
        pid, written_at = int(alive["pid"]), float(alive["since_boot_s"])
    except FileNotFoundError:
        return f"the worker does not take work yet: there is no {file}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{file} cannot be read: {error!r}"
    if not Path(f"/proc/{pid}").exists():
        return f"the worker's main process {pid} is gone"
    age_s = now - written_at
    if not 0 <= age_s <= MAX_AGE_S:
        return f"the worker's main process {pid} has not answered for {age_s:.0f} s"
    return None


def main() -> int:
    """Returns the exit status; says on standard error what is wrong."""
    problem = trouble(WorkDir(HealthSettings().work_dir).alive_file, worker_clock())
    if problem is not None:
        sys.stderr.write(problem + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
