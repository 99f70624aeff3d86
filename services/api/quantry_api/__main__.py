"""``python -m quantry_api``: serves the control plane until it is told to stop."""

from __future__ import annotations

import os
import sys

import structlog

from quantry_api.app import build_app
from quantry_api.settings import ApiSettings
from quantry_blobs.settings import BlobSettings
from quantry_core.secret_files import take_secret_files
from quantry_http.server import serve
from quantry_store.settings import StoreSettings
from quantry_telemetry.logs import configure_logging
from quantry_telemetry.traces import configure_tracing, end_tracing_with_process

SWITCH_INTERVAL_S = 0.0005
"""How long the event loop may keep the interpreter from the thread that wakes workers. Python's 5 ms are longer than all that a
wake takes: a job's worker would hear of it when the loop is idle again."""

ENDPOINT_VARIABLE = "QUANTRY_S3_ENDPOINT"

_log = structlog.get_logger(__name__)


def main() -> None:
    """Reads the environment and serves."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    take_secret_files("quantry-api")
    configure_logging("api")
    configure_tracing("api")
    end_tracing_with_process()
    settings = ApiSettings()
    blobs = BlobSettings() if os.environ.get(ENDPOINT_VARIABLE) else None
    if blobs is None:
        _log.warning("estimates.without_object_store", detail=f"{ENDPOINT_VARIABLE} is not set: estimates will know nothing of versions")
    serve(build_app(settings, StoreSettings(), blobs), settings.api_host, settings.api_port)


if __name__ == "__main__":
    main()
