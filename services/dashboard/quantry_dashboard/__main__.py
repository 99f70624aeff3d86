"""``python -m quantry_dashboard``: serves until SIGTERM or SIGINT, then ends within 3 seconds."""

from __future__ import annotations

import sys
from contextlib import ExitStack, suppress

import uvicorn
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.types import ASGIApp

from quantry_core.secret_files import take_secret_files
from quantry_dashboard.app import build_app
from quantry_dashboard.bodies import BoundedBodies
from quantry_dashboard.metrics import CountedRequests, dashboard_registry
from quantry_dashboard.settings import DashboardSettings
from quantry_telemetry.connections import ConnectionSettings, protocol_within
from quantry_telemetry.http_metrics import HttpMetrics
from quantry_telemetry.logs import configure_logging
from quantry_telemetry.metrics_port import serving_metrics
from quantry_telemetry.settings import TelemetrySettings

_GRACE_S = 1
"""For answers under way. Open pages reconnect by themselves when the dashboard is back."""

QUIET = ("httpx", "uvicorn.error")
"""Loggers that say warnings alone. Open pages ask every second or two: a line for each would bury the rest. The server writes the address
of every socket, and that names an open page by the id its messages are believed for."""


def server_config(app: ASGIApp, settings: DashboardSettings, connections: ConnectionSettings) -> uvicorn.Config:
    """Returns how uvicorn serves the dashboard."""
    return uvicorn.Config(
        BoundedBodies(app, connections),
        http=protocol_within(connections),
        host=settings.dashboard_host,
        port=settings.dashboard_port,
        loop="uvloop",
        ws="websockets-sansio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.dashboard_trusted_proxies),
        forwarded_allow_ips=settings.dashboard_trusted_proxies,
        timeout_graceful_shutdown=_GRACE_S,
    )


def main() -> int:
    """Returns the exit status where no signal ended it: 2 where the settings are wrong, 1 where it could not start."""
    take_secret_files("quantry-dashboard")
    configure_logging("dashboard", quiet=QUIET)
    try:
        settings, telemetry, connections = DashboardSettings(), TelemetrySettings(), ConnectionSettings()
    except ValidationError as error:
        problems = "; ".join(_problem(item) for item in error.errors())
        sys.stderr.write(f"quantry-dashboard: the settings are not valid: {problems}\n")
        return 2
    app = build_app(settings)
    registry = dashboard_registry(app.state.sessions.__len__)
    server = uvicorn.Server(server_config(CountedRequests(app, HttpMetrics(registry)), settings, connections))
    with ExitStack() as stack:
        try:
            stack.enter_context(serving_metrics(registry, telemetry))
        except OSError as error:
            sys.stderr.write(f"quantry-dashboard: metrics cannot be served on port {telemetry.metrics_port}: {error.strerror}\n")
            return 2
        with suppress(KeyboardInterrupt):
            server.run()
    return 0 if server.started else 1


def _problem(item: ErrorDetails) -> str:
    """Returns what is wrong with a setting, or with several of them together."""
    where = f"QUANTRY_{str(item['loc'][0]).upper()}: " if item["loc"] else ""
    return where + item["msg"].removeprefix("Value error, ")


if __name__ == "__main__":
    sys.exit(main())
