"""``python -m quantry_worker``: waits for the broker and the control plane, then runs the Celery worker in this process."""

from __future__ import annotations

import socket
import sys
import time
from typing import Any

import structlog
from celery import Celery, signals
from prometheus_client import CollectorRegistry

from quantry_blobs.settings import BlobSettings
from quantry_core.errors import QuantryError, Unauthorized, Unavailable
from quantry_core.ids import IdPrefix, new_id
from quantry_core.secret_files import take_secret_files
from quantry_telemetry.gpus import Gpus
from quantry_telemetry.metrics_port import MetricsPort
from quantry_telemetry.settings import TelemetrySettings
from quantry_worker.app import create_app
from quantry_worker.cache import BlobCache
from quantry_worker.control import HttpControl
from quantry_worker.devices import find_devices
from quantry_worker.drain import Drain
from quantry_worker.figures import clear_figures
from quantry_worker.health import Liveness
from quantry_worker.hello import Greeter, describe
from quantry_worker.idle import IdleEnd, end_softly, is_any_slot_awake
from quantry_worker.logs import configure_logging
from quantry_worker.metrics import worker_registry
from quantry_worker.settings import WorkerSettings, check_slots
from quantry_worker.work_dir import WorkDir, WorkDirTaken

log = structlog.get_logger("quantry_worker")

RETRY_S = 1.0
EXIT_SETTINGS = 78
"""EX_CONFIG of sysexits.h: starting again changes nothing."""


def main() -> int:
    """Runs the worker until it is told to stop; returns the exit status."""
    take_secret_files("quantry-worker")
    configure_logging()
    try:
        settings, blob_settings, telemetry = WorkerSettings(), BlobSettings(), TelemetrySettings()
        devices = find_devices(settings.worker_gpus)
        check_slots(settings, len(devices))
    except ValueError as error:
        log.error("the settings cannot be used", problem=str(error))
        return EXIT_SETTINGS
    work_dir = WorkDir(settings.work_dir)
    try:
        work_dir.take()
    except (WorkDirTaken, OSError) as error:
        log.error("the work folder cannot be used", problem=str(error))
        return EXIT_SETTINGS
    BlobCache(work_dir.cache, settings.worker_cache_bytes).clear_incoming()
    clear_figures(work_dir.figures)
    worker_id, hello, gpus = new_id(IdPrefix.WORKER), describe(settings, devices), Gpus()
    greeter = Greeter(settings, worker_id, hello, gpus)
    app = create_app(settings, blob_settings, work_dir, Drain(), worker_id=worker_id, hello=hello)
    try:
        wait_for_control(settings, greeter)
    except QuantryError as error:
        log.error("the control plane does not take this worker", control_url=settings.control_url, problem=error.detail)
        return EXIT_SETTINGS
    wait_for_broker(app)

    def on_ready(**_: object) -> None:
        log.info("the worker takes work", worker_id=worker_id, queues=settings.worker_queues, slots=settings.worker_slots)
        Liveness(work_dir.alive_file).start()
        greeter.start()
        serve_metrics(worker_registry(work_dir.figures, work_dir.cache, num_slots=settings.worker_slots, gpus=gpus), telemetry)
        if settings.worker_max_idle_s is not None:
            IdleEnd(settings.worker_max_idle_s, is_busy=is_any_slot_awake, end=end_softly).start()

    signals.worker_ready.connect(on_ready, weak=False)
    worker = app.Worker(**worker_options(settings))
    worker.start()
    return int(worker.exitcode or 0)


def serve_metrics(registry: CollectorRegistry, settings: TelemetrySettings) -> None:
    """Serves metrics until the process ends, where the settings name a port. One that is taken costs the metrics, not the worker."""
    if settings.metrics_port is None:
        return
    try:
        MetricsPort(registry, host=settings.metrics_host, port=settings.metrics_port, token=settings.metrics_token).start()
    except OSError as error:
        log.error("metrics are not served", host=settings.metrics_host, port=settings.metrics_port, problem=str(error))


def worker_options(settings: WorkerSettings) -> dict[str, Any]:
    """Returns what ``celery worker`` would be given on its command line. Its own main would lose the exit status."""
    return {
        "quiet": True,
        "loglevel": "INFO",
        "hostname": f"quantry@{socket.gethostname()}",
        "concurrency": settings.worker_slots,
        "queues": list(settings.worker_queues),
        # Workers do not talk to each other: they meet in Postgres.
        "without_gossip": True,
        "without_mingle": True,
        "without_heartbeat": True,
    }


def wait_for_control(settings: WorkerSettings, greeter: Greeter) -> None:
    """Returns when the control plane has heard of this worker; raises QuantryError if it refuses it."""
    control = HttpControl(settings.control_url, settings.worker_token.get_secret_value(), token_file=settings.worker_token_file)
    while True:
        try:
            greeter.send(control)
        except Unauthorized as error:
            raise Unauthorized(f"{error.detail} (the token is QUANTRY_WORKER_TOKEN)") from error
        except Unavailable as error:
            log.info("waiting for the control plane", control_url=settings.control_url, problem=error.detail)
            time.sleep(RETRY_S)
        else:
            break
    control.close()


def wait_for_broker(app: Celery) -> None:
    """Returns when Redis answers."""
    with app.connection_for_read() as connection:
        while True:
            try:
                connection.connect()
            except connection.recoverable_connection_errors as error:
                log.info("waiting for the broker", broker=connection.as_uri(), problem=str(error))
                time.sleep(RETRY_S)
            else:
                return


if __name__ == "__main__":
    sys.exit(main())
