"""``python -m quantry_dashboard``: serves until SIGTERM or SIGINT, then ends within 3 seconds."""

from __future__ import annotations

import sys
from contextlib import suppress

import uvicorn
from pydantic import ValidationError

from quantry_dashboard.app import build_app
from quantry_dashboard.logs import configure_logs
from quantry_dashboard.settings import DashboardSettings

_GRACE_S = 1
"""For answers under way. Open pages reconnect by themselves when the dashboard is back."""


def server_config(settings: DashboardSettings) -> uvicorn.Config:
    """Returns how uvicorn serves the dashboard."""
    return uvicorn.Config(
        build_app(settings),
        host=settings.dashboard_host,
        port=settings.dashboard_port,
        loop="uvloop",
        ws="websockets-sansio",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_S,
    )


def main() -> int:
    """Returns the exit status where no signal ended it: 2 where the settings are wrong, 1 where it could not start."""
    configure_logs()
    try:
        settings = DashboardSettings()
    except ValidationError as error:
        problems = "; ".join(f"QUANTRY_{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors())
        sys.stderr.write(f"quantry-dashboard: the settings are not valid: {problems}\n")
        return 2
    server = uvicorn.Server(server_config(settings))
    with suppress(KeyboardInterrupt):
        server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
