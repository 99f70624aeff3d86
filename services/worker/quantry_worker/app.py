"""The Celery app: its one task wakes a slot. Postgres decides what there is to do; a message here is only a nudge."""

from __future__ import annotations

import functools
import os
from typing import Any

import structlog
from celery import Celery, signals

from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_blobs.vault import Staging, Vault
from quantry_core.errors import QuantryError
from quantry_core.execution import WAKE_TASK
from quantry_core.jobs import Queue
from quantry_worker.artifacts import Artifacts
from quantry_worker.cache import BlobCache
from quantry_worker.control import HttpControl
from quantry_worker.drain import Drain
from quantry_worker.lifeline import die_with_parent
from quantry_worker.settings import WorkerSettings
from quantry_worker.slot import Slot, draining_on_signals
from quantry_worker.supervisor import Supervisor
from quantry_worker.work_dir import WorkDir

log = structlog.get_logger(__name__)


def celery_settings(settings: WorkerSettings) -> dict[str, Any]:
    """Returns the settings of the worker's Celery app, each with the reason it is as it is."""
    return {
        "broker_url": settings.broker_url.get_secret_value(),
        # Redis may start after the worker, and may go away for any time: wait for it, for ever.
        "broker_connection_retry_on_startup": True,
        "broker_connection_retry": True,
        "broker_connection_max_retries": None,
        "broker_channel_error_retry": True,
        # A dead connection is noticed: without these, kombu waits on a half-open one. visibility_timeout stays as it is:
        # it re-delivers what was not acknowledged, and a wake is acknowledged when a slot takes it.
        "broker_transport_options": {"socket_connect_timeout": 5, "socket_keepalive": True, "health_check_interval": 10},
        # JSON alone is read: nobody who reaches the broker can have the worker unpickle anything.
        "accept_content": ["json"],
        "task_serializer": "json",
        # Early acknowledgement: a wake is done when a slot has it. The job's safety is its lease, not the message.
        "task_acks_late": False,
        # A busy worker takes no message: another worker's free slot gets it. (Redis only, which is what we use.)
        "worker_disable_prefetch": True,
        "worker_prefetch_multiplier": 1,
        # A wake has no result; without a result backend Celery needs no second connection.
        "task_ignore_result": True,
        "result_backend": None,
        "task_store_errors_even_if_ignored": False,
        # Nobody inspects or controls workers over the broker, and nobody listens to task events: the API shows the truth.
        "worker_enable_remote_control": False,
        "worker_send_task_events": False,
        "task_send_sent_event": False,
        # No time limits: a job may run for days. Its lease and the cancel request end it.
        "task_time_limit": None,
        "task_soft_time_limit": None,
        # Fork, not spawn: the pool process inherits the drain flag and the lock on the work folder.
        "worker_pool": "prefork",
        "worker_pool_start_method": "fork",
        "worker_concurrency": settings.worker_slots,
        # On a loaded machine a pool process needs longer than the default 4 s to say that it is up.
        "worker_proc_alive_timeout": 60.0,
        # SIGQUIT waits this long for the slots to hand their jobs back. (SIGTERM and SIGINT wait until they have.)
        "worker_soft_shutdown_timeout": 5.0,
        # Our own logging is set up already; Celery's lines go through it.
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
        "task_default_queue": settings.worker_queues[0].value,
        "timezone": "UTC",
    }


def create_app(settings: WorkerSettings, blob_settings: BlobSettings, work_dir: WorkDir, drain: Drain) -> Celery:
    """Returns the app with the task WAKE_TASK(queue). Everything with a connection is made in the pool process."""
    app = Celery("quantry", set_as_current=False)
    app.conf.update(celery_settings(settings))
    main_pid = os.getpid()

    @functools.cache
    def slot() -> Slot:
        control = HttpControl(settings.control_url, settings.worker_token.get_secret_value())
        store = MinioStore(blob_settings)
        artifacts = Artifacts(
            Vault(store, blob_settings.vault_bucket),
            Staging(store, blob_settings.staging_bucket),
            BlobCache(work_dir.cache, settings.worker_cache_bytes),
            control,
        )
        supervisor = Supervisor(settings, control=control, artifacts=artifacts, work_dir=work_dir, is_draining=drain.is_requested)
        return Slot(control, supervisor, drain.is_requested)

    def wake(queue: str) -> None:
        try:
            with draining_on_signals(drain):
                slot().serve(Queue(queue))
        except QuantryError as error:
            # The next wake comes by itself: the sweep sends one while the queue holds work.
            log.error("no work could be claimed", queue=queue, error=error.detail)

    def on_pool_process(**_: object) -> None:
        die_with_parent(main_pid)

    def on_shutdown(**_: object) -> None:
        # Runs in a signal handler of the main process. A SIGTERM to it alone must reach the slots too.
        drain.request()

    app.task(name=WAKE_TASK)(wake)
    signals.worker_process_init.connect(on_pool_process, weak=False)
    signals.worker_shutting_down.connect(on_shutdown, weak=False)
    return app
