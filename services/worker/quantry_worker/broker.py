"""How the worker comes back to Redis after any absence."""

from __future__ import annotations

from typing import Any

import structlog
from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown

from quantry_core.celery_settings import RECONNECT_INTERVAL_S

log = structlog.get_logger(__name__)


class PatientConsumer(Consumer):
    """Celery's consumer, which tries at the same short interval for ever.

    Celery's own lets the interval grow to 30 s and has no setting for it; a largest number of tries ends the worker.
    """

    def ensure_connected(self, conn: Any) -> Any:
        """Returns the connection once Redis answers."""

        def on_error(error: Exception, interval_s: float) -> None:
            log.warning("waiting for the broker", broker=conn.as_uri(), problem=str(error), again_in_s=interval_s)

        connected = conn.ensure_connection(
            on_error,
            None,
            interval_start=RECONNECT_INTERVAL_S,
            interval_step=0,
            interval_max=RECONNECT_INTERVAL_S,
            callback=maybe_shutdown,
        )
        self.first_connection_attempt = False
        return connected
