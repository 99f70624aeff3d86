"""The other processes of a training, as the first one sees them: started, watched, ended, and asked why they failed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from quantry_core.errors import InvalidInput
from quantry_core.jobs import JobReason
from quantry_worker.child.failures import Diverged
from quantry_worker.protocol import EVENTS_FD_VARIABLE, ChildFailure, ChildTask

PEER = "quantry_worker.child.training.peer"
END_TIMEOUT_S = 60.0
"""How long the first waits for the others to end, once it has its result or has failed."""
FAILURE_FILE = "failure.json"
POLL_S = 1.0
NOTICE_S = 20.0
"""How long the first has to find out by itself that another is gone: over gloo it does at once, over NCCL it may wait for it for ever."""


class Peers:
    """The other processes of a training, each with a folder of its own for what it would write."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, task: ChildTask, num_processes: int, port: int) -> None:
        """Starts all of them."""
        environment = {name: value for name, value in os.environ.items() if name != EVENTS_FD_VARIABLE}
        for rank in range(1, num_processes):
            folder = self._folder / str(rank)
            own = {"output_dir": folder / "output", "artifacts_dir": folder / "artifacts"}
            for path in own.values():
                path.mkdir(parents=True)
            (folder / "task.json").write_text(task.model_copy(update=own).model_dump_json(), encoding="utf-8")
            arguments = [str(folder / "task.json"), str(port), str(rank), str(folder / FAILURE_FILE)]
            # In the child's session: who ends the child ends them; and the kernel does when it ends by itself.
            launch = [sys.executable, "-m", "quantry_worker.launch", str(os.getpid()), PEER]
            self._processes.append(subprocess.Popen([*launch, *arguments], env=environment, stdin=subprocess.DEVNULL))

    @contextmanager
    def watched(self, on_lost: Callable[[Exception], None], *, poll_s: float = POLL_S, notice_s: float = NOTICE_S) -> Iterator[None]:
        """While the block runs, tells from a thread why one of them is gone, if the block does not end by itself soon after."""
        is_over = threading.Event()

        def watch() -> None:
            while not is_over.wait(poll_s):
                gone = next((rank for rank, process in enumerate(self._processes, 1) if process.poll() is not None), None)
                if gone is not None and not is_over.wait(notice_s):
                    on_lost(self.failure() or RuntimeError(f"process {gone} {self._ending(gone)}"))
                    return

        thread = threading.Thread(target=watch, name="peers", daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()

    def wait(self) -> None:
        """Waits until all have ended, and kills what has not in time."""
        for process in self._processes:
            try:
                process.wait(END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()

    def kill(self) -> None:
        """Ends all at once and reaps them."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()

    def _ending(self, rank: int) -> str:
        # At the end of the block the first meets the others: none of them may be done before.
        is_done = self._processes[rank - 1].returncode == 0
        return "has ended before the training has" if is_done else "has gone without a word"

    def failure(self) -> Exception | None:
        """Returns why one of them failed, None if none said so: the first process then sees only that it is alone."""
        for rank in range(1, len(self._processes) + 1):
            said = self._folder / str(rank) / FAILURE_FILE
            if said.exists():
                return _as_exception(ChildFailure.model_validate_json(said.read_bytes()), rank)
        return None


def _as_exception(failure: ChildFailure, rank: int) -> Exception:
    match failure.reason:
        case JobReason.INVALID_INPUT:
            return InvalidInput(failure.message)
        case JobReason.DIVERGED:
            return Diverged(failure.message)
        case JobReason.OUT_OF_MEMORY:
            return MemoryError(f"process {rank}: {failure.message}")
        case _:
            return RuntimeError(f"process {rank}: {failure.message}")
