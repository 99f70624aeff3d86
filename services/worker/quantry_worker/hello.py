"""Says to the control plane who this worker is and what it can do, every WORKER_HELLO_INTERVAL_S seconds."""

from __future__ import annotations

import os
import socket
import threading
from importlib.metadata import version

import structlog

from quantry_core.errors import QuantryError
from quantry_core.workers import WORKER_HELLO_INTERVAL_S, Device, WorkerHello
from quantry_telemetry.gpus import Gpus
from quantry_worker.control import HttpControl
from quantry_worker.memory import machine_memory_bytes
from quantry_worker.metrics import with_readings
from quantry_worker.settings import WorkerSettings
from quantry_worker.toolchains import toolchain_digest

log = structlog.get_logger(__name__)

HELLO_TIMEOUT_S = 5.0
MEMORY_SHARE = 0.9
"""Of the machine's memory, for the children of all slots together; the rest is for the worker's own processes."""


def describe(settings: WorkerSettings, devices: list[Device]) -> WorkerHello:
    """Returns what this worker says of itself. Takes the digest of each environment whose interpreter is there."""
    return WorkerHello(
        host=socket.gethostname()[:128],
        pid=os.getpid(),
        version=version("quantry-worker"),
        queues=settings.worker_queues,
        num_slots=settings.worker_slots,
        environments={one: toolchain_digest(python) for one, python in settings.pythons.items() if os.access(python, os.X_OK)},
        devices=devices,
        memory_bytes=memory_of_slot(settings),
    )


def memory_of_slot(settings: WorkerSettings) -> int:
    """Returns the bytes of RAM that one slot's child may use: as set, or an equal share of the machine's."""
    if settings.worker_memory_bytes is not None:
        return settings.worker_memory_bytes
    return int(machine_memory_bytes() * MEMORY_SHARE / settings.worker_slots)


class Greeter:
    """Sends the hello from a thread of the main process: forks do not have it."""

    def __init__(self, settings: WorkerSettings, worker_id: str, hello: WorkerHello, gpus: Gpus | None = None) -> None:
        """``gpus`` is asked what the worker's devices do; they are told without that where it is None."""
        self._gpus = gpus
        self._settings = settings
        self._worker_id = worker_id
        self._hello = hello
        self._is_heard = True

    def start(self) -> None:
        """Begins to send, one interval from now."""
        threading.Thread(target=self._run, name="hello", daemon=True).start()

    def send(self, control: HttpControl) -> None:
        """Sends it once; raises QuantryError if it does not arrive or is refused."""
        hello = self._hello
        if self._gpus is not None and hello.devices:
            hello = hello.model_copy(update={"devices": with_readings(hello.devices, self._gpus.read())})
        control.hello(self._worker_id, hello, HELLO_TIMEOUT_S)

    def _run(self) -> None:
        control = HttpControl(
            self._settings.control_url, self._settings.worker_token.get_secret_value(), token_file=self._settings.worker_token_file
        )
        while True:
            threading.Event().wait(WORKER_HELLO_INTERVAL_S)
            try:
                self.send(control)
            except QuantryError as error:
                if self._is_heard:
                    log.warning("the control plane does not hear this worker", problem=error.detail)
                self._is_heard = False
            else:
                self._is_heard = True
