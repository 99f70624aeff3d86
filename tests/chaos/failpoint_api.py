"""``python -m chaos.failpoint_api``: an api replica that kills itself between a commit and the wake-up that follows it.

The product has no failpoints. This program builds the real app and puts a waker in it that sends SIGKILL to its own
process. Importing takes longer than all the rest, so one process imports and listens, and forks a replica for each line it
reads. It writes the port first, and after each replica's end the number of the signal that ended it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import socket
import sys

import uvicorn

from quantry_api.app import build_app
from quantry_api.settings import ApiSettings
from quantry_core.jobs import Queue
from quantry_store.settings import StoreSettings
from quantry_telemetry.logs import configure_logging

NEVER_S = 3600.0
"""This replica does not sweep: what it leaves undone is for another one to find."""


class Failpoint:
    """In the place of quantry_api.wake.Waker."""

    def soon(self, queue: Queue) -> None:
        """Dies as a machine that loses its power does."""
        os.kill(os.getpid(), signal.SIGKILL)

    async def wake(self, queue: Queue) -> bool:
        """As ``soon``."""
        self.soon(queue)
        await asyncio.sleep(NEVER_S)
        return False

    def close(self) -> None:
        """There is nothing to close."""


def serve_once(listener: socket.socket) -> None:
    """Serves with the failpoint armed, in a forked process; never returns in practice."""
    app = build_app(ApiSettings(sweep_interval_s=NEVER_S), StoreSettings())
    app.state.api = dataclasses.replace(app.state.api, waker=Failpoint())
    config = uvicorn.Config(app, log_config=None, access_log=False)
    uvicorn.Server(config).run(sockets=[listener])


def main() -> None:
    """Forks a replica for each line of standard input."""
    configure_logging("api")
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    for _ in sys.stdin:
        pid = os.fork()
        if pid == 0:
            serve_once(listener)
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, flush=True)


if __name__ == "__main__":
    main()
