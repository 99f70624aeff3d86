"""``python -m quantry_gateway``: serves until SIGTERM or SIGINT, then ends within 3 seconds."""

from __future__ import annotations

import resource
import sys
from contextlib import suppress

import uvicorn
from pydantic import ValidationError

from quantry_gateway.app import build_app
from quantry_gateway.logs import configure_logs
from quantry_gateway.settings import GatewaySettings

_GRACE_S = 2
"""For answers under way; streams that take longer end with an error event. One second is left for the rest."""


def server_config(settings: GatewaySettings) -> uvicorn.Config:
    """Returns how uvicorn serves the gateway."""
    return uvicorn.Config(
        build_app(settings),
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
        timeout_graceful_shutdown=_GRACE_S,
    )


def allow_connections() -> None:
    """Takes as many open files as the system lets this process have: each stream needs two."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def main() -> int:
    """Returns the exit status: 0 after a stop that was asked for, 2 where the settings are wrong, 1 otherwise."""
    configure_logs()
    try:
        settings = GatewaySettings()
    except ValidationError as error:
        problems = "; ".join(f"QUANTRY_{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors())
        sys.stderr.write(f"quantry-gateway: the settings are not valid: {problems}\n")
        return 2
    allow_connections()
    server = uvicorn.Server(server_config(settings))
    with suppress(KeyboardInterrupt):
        server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
