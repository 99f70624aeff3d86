"""Runs a service: uvicorn on one address, until SIGTERM or SIGINT."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI

from quantry_http.settings import HttpSettings
from quantry_telemetry.connections import ConnectionSettings, protocol_within

GRACE_S = 3
"""Open requests (event streams among them) may last this long after the stop signal, in seconds."""


def serve(app: FastAPI, host: str, port: int) -> None:
    """Serves ``app`` until it is told to stop; raises SystemExit if the address cannot be bound.

    Call ``configure_logging`` first: uvicorn's own log set-up is off, and so is its access log (ours has request ids).
    """
    uvicorn.Server(server_config(app, host, port, ConnectionSettings())).run()


def server_config(app: FastAPI, host: str, port: int, connections: ConnectionSettings) -> uvicorn.Config:
    """Returns how uvicorn serves ``app``."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol_within(connections),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        forwarded_allow_ips=HttpSettings().trusted_proxies,
    )
