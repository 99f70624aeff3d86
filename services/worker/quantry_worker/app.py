"""The Celery app: its one task wakes a slot. Postgres decides what there is to do; a message here is only a nudge."""

from __future__ import annotations

import functools
import os

import structlog
from billiard import current_process
from celery import Celery, signals

from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_blobs.vault import Staging, Vault
from quantry_core.celery_settings import worker_settings
from quantry_core.errors import QuantryError
from quantry_core.execution import WAKE_TASK
from quantry_core.workers import Device, WorkerHello
from quantry_telemetry.traces import configure_tracing
from quantry_worker.artifacts import Artifacts
from quantry_worker.buckets import import_buckets
from quantry_worker.cache import BlobCache
from quantry_worker.control import HttpControl
from quantry_worker.drain import Drain
from quantry_worker.figures import SlotFigures, figures_file
from quantry_worker.lifeline import die_with_parent
from quantry_worker.settings import WorkerSettings
from quantry_worker.slot import Slot, draining_on_signals
from quantry_worker.supervisor import Supervisor
from quantry_worker.work_dir import WorkDir

log = structlog.get_logger(__name__)


HAND_BACK_S = 8.0
"""How long a slot needs at most, once its drain grace is over, to end its child and to hand its job back."""


def create_app(
    settings: WorkerSettings, blob_settings: BlobSettings, work_dir: WorkDir, drain: Drain, *, worker_id: str, hello: WorkerHello
) -> Celery:
    """Returns the app with the task WAKE_TASK(queue). Everything with a connection is made in the pool process.

    ``hello`` is what the worker says of itself: its slots have these environments, devices and bounds.
    """
    app = Celery("quantry", set_as_current=False)
    app.conf.update(
        worker_settings(
            settings.broker_url.get_secret_value(),
            queues=settings.worker_queues,
            num_slots=settings.worker_slots,
            drain_s=settings.worker_drain_grace_s + HAND_BACK_S,
        )
    )
    main_pid = os.getpid()

    @functools.cache
    def slot() -> Slot:
        control = HttpControl(settings.control_url, settings.worker_token.get_secret_value(), token_file=settings.worker_token_file)
        store = MinioStore(blob_settings)
        artifacts = Artifacts(
            Vault(store, blob_settings.vault_bucket),
            Staging(store, blob_settings.staging_bucket),
            BlobCache(work_dir.cache, settings.worker_cache_bytes),
            control,
        )
        supervisor = Supervisor(
            settings,
            control=control,
            artifacts=artifacts,
            buckets=import_buckets(settings, store, blob_settings),
            work_dir=work_dir,
            is_draining=drain.is_requested,
            memory_bytes=hello.memory_bytes,
            devices=devices_of(slot_index(), hello.devices, settings.worker_gpus_per_slot),
            figures=SlotFigures(figures_file(work_dir.figures, slot_index())),
        )
        return Slot(control, supervisor, drain.is_requested, worker_id=worker_id, environments=hello.environments)

    def wake(queue: str) -> None:
        try:
            with draining_on_signals(drain):
                slot().serve(queue)
        except QuantryError as error:
            # The next wake comes by itself: the sweep sends one while the queue holds work.
            log.error("no work could be claimed", queue=queue, error=error.detail)

    def on_pool_process(**_: object) -> None:
        die_with_parent(main_pid)
        # Here, and not in the main process: the thread that sends spans does not survive a fork.
        configure_tracing("worker")

    def on_shutdown(**_: object) -> None:
        # Runs in a signal handler of the main process. A SIGTERM to it alone must reach the slots too.
        drain.request()

    app.task(name=WAKE_TASK)(wake)
    signals.worker_process_init.connect(on_pool_process, weak=False)
    signals.worker_shutting_down.connect(on_shutdown, weak=False)
    return app


def slot_index() -> int:
    """Returns which of the worker's slots this pool process is, from 0. One that replaces a dead one takes over its index."""
    # Set by billiard's pool on the process objects it makes.
    index: int = getattr(current_process(), "index", 0)
    return index


def devices_of(index: int, devices: list[Device], num_per_slot: int) -> list[Device]:
    """Returns the GPUs of a slot; none on a worker without."""
    return devices[index * num_per_slot : (index + 1) * num_per_slot]
