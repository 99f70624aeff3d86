"""One of the other processes of a training: ``python -m quantry_worker.child.training.peer <task.json> <port> <rank> <failure.json>``."""

from __future__ import annotations

import signal
import sys
import traceback
from pathlib import Path

from quantry_worker.child.failures import failure_of
from quantry_worker.child.libraries import leave_out, load
from quantry_worker.child.waiting import wait_politely
from quantry_worker.protocol import ChildTask


def main(arguments: list[str]) -> int:
    """Performs its share; returns the exit status, 1 where it failed, with the reason in the file named last."""
    wait_politely()
    leave_out()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    task_path, port, rank, failure_path = arguments
    try:
        # Imported when the reason of a failure can be told already: it takes seconds, and may fail.
        run_peer = load("quantry_worker.child.training.distributed").run_peer
        run_peer(ChildTask.model_validate_json(Path(task_path).read_bytes()), int(rank), int(port))
    except Exception as error:
        traceback.print_exc()
        written = Path(failure_path).with_suffix(".new")
        written.write_text(failure_of(error).model_dump_json(), encoding="utf-8")
        written.rename(failure_path)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
