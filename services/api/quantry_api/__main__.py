"""``python -m quantry_api``: serves the control plane until it is told to stop."""

from __future__ import annotations

from quantry_api.app import build_app
from quantry_api.settings import ApiSettings
from quantry_http.logs import configure_logging
from quantry_http.server import serve
from quantry_store.settings import StoreSettings


def main() -> None:
    """Reads the environment and serves."""
    configure_logging("api")
    settings = ApiSettings()
    serve(build_app(settings, StoreSettings()), settings.api_host, settings.api_port)


if __name__ == "__main__":
    main()
