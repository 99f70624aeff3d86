"""``python -m quantry_gateway``: serves until SIGTERM or SIGINT, then ends within a second after its exit grace."""

from __future__ import annotations

import resource
import sys
from contextlib import ExitStack, suppress

import uvicorn
from pydantic import ValidationError

from quantry_core.secret_files import take_secret_files
from quantry_gateway.app import build_app
from quantry_gateway.metrics import GatewayMetrics
from quantry_gateway.settings import GatewaySettings
from quantry_telemetry.connections import ConnectionSettings, protocol_within
from quantry_telemetry.logs import configure_logging
from quantry_telemetry.metrics_port import serving_metrics
from quantry_telemetry.settings import TelemetrySettings
from quantry_telemetry.traces import configure_tracing, end_tracing_with_process


def server_config(
    settings: GatewaySettings, metrics: GatewayMetrics | None = None, connections: ConnectionSettings | None = None
) -> uvicorn.Config:
    """Returns how uvicorn serves the gateway, which counts into ``metrics``. ``connections``: those of the environment where not given."""
    bounds = ConnectionSettings() if connections is None else connections
    return uvicorn.Config(
        build_app(settings, metrics, bounds),
        http=protocol_within(bounds),
        host=settings.gateway_host,
        port=settings.gateway_port,
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=bool(settings.gateway_trusted_proxies),
        forwarded_allow_ips=settings.gateway_trusted_proxies,
        timeout_graceful_shutdown=settings.gateway_exit_grace_s,
    )


def allow_connections() -> None:
    """Takes as many open files as the system lets this process have: each stream needs two."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    """Returns the exit status: 0 after a stop that was asked for, 2 where the settings are wrong, 1 otherwise."""
    take_secret_files("quantry-gateway")
    configure_logging("gateway")
    try:
        settings, telemetry, connections = GatewaySettings(), TelemetrySettings(), ConnectionSettings()
    except ValidationError as error:
        problems = "; ".join(f"QUANTRY_{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors())
        sys.stderr.write(f"quantry-gateway: the settings are not valid: {problems}\n")
        return 2
    allow_connections()
    # A stranger's word is not what decides which traces are kept.
    configure_tracing("gateway", telemetry, believes_parents=False)
    end_tracing_with_process()
    metrics = GatewayMetrics(with_gen_ai=telemetry.gen_ai_metrics)
    server = uvicorn.Server(server_config(settings, metrics, connections))
    with ExitStack() as stack:
        try:
            stack.enter_context(serving_metrics(metrics.registry, telemetry))
        except OSError as error:
            sys.stderr.write(f"quantry-gateway: metrics cannot be served on port {telemetry.metrics_port}: {error.strerror}\n")
            return 2
        with suppress(KeyboardInterrupt):
            server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
