"""A port for /metrics alone, for services whose own port strangers reach, and those that have none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import structlog
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import SecretStr
from typing_extensions import override

from quantry_telemetry.reading import may_read
from quantry_telemetry.settings import TelemetrySettings

REQUEST_TIMEOUT_S = 10.0
"""A reader that says nothing for so long is cut off."""
POLL_S = 0.2

_log = structlog.get_logger(__name__)


class MetricsPort:
    """Serves one registry from a thread. Collectors of it are called there: they may read, and must not wait."""

    def __init__(self, registry: CollectorRegistry, *, host: str, port: int, token: SecretStr | None) -> None:
        """Binds the address; raises OSError where it is taken. Port 0 is any free one."""
        self._server = _Server((host, port), _handler(registry, token))
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), name="metrics", daemon=True)

    def start(self) -> None:
        """Begins to serve."""
        self._thread.start()

    def close(self) -> None:
        """Stops serving, and gives the address up."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def serving_metrics(registry: CollectorRegistry, settings: TelemetrySettings) -> Iterator[MetricsPort | None]:
    """Serves the registry while the block runs, where the settings name a port; raises OSError where that is taken."""
    if settings.metrics_port is None:
        yield None
        return
    port = MetricsPort(registry, host=settings.metrics_host, port=settings.metrics_port, token=settings.metrics_token)
    port.start()
    _log.info("metrics are served", host=settings.metrics_host, port=port.port, needs_token=settings.metrics_token is not None)
    try:
        yield port
    finally:
        port.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    @override
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went away is no news."""


def _handler(registry: CollectorRegistry, token: SecretStr | None) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = REQUEST_TIMEOUT_S
        server_version = "quantry"
        sys_version = ""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/metrics":
                self._answer(404, b"there is nothing but /metrics here\n")
            elif not may_read(self.headers.get("Authorization"), token):
                self._answer(401, b"this needs the token of QUANTRY_METRICS_TOKEN: Authorization: Bearer ...\n")
            else:
                self._answer(200, generate_latest(registry), CONTENT_TYPE_LATEST)

        @override
        def log_message(self, format: str, *args: Any) -> None:
            """A line for each scrape would bury the rest."""

        def _answer(self, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8") -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            if status == 401:
                self.send_header("WWW-Authenticate", "Bearer")
            self.end_headers()
            self.wfile.write(body)

    return Handler
