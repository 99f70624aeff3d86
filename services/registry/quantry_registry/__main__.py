"""``python -m quantry_registry``: serves the registry until it is told to stop."""

from __future__ import annotations

from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_core.secret_files import take_secret_files
from quantry_http.server import serve
from quantry_registry.app import make_app
from quantry_registry.parts import make_parts
from quantry_registry.settings import RegistrySettings
from quantry_store.database import Database
from quantry_store.settings import StoreSettings
from quantry_telemetry.logs import configure_logging
from quantry_telemetry.traces import configure_tracing, end_tracing_with_process


def main() -> None:
    """Reads the settings from the environment and serves."""
    take_secret_files("quantry-registry")
    configure_logging("registry")
    configure_tracing("registry")
    end_tracing_with_process()
    settings = RegistrySettings()
    blob_settings = BlobSettings()
    database = Database(StoreSettings().database_url)
    parts = make_parts(settings, blob_settings, MinioStore(blob_settings))
    serve(make_app(database, parts), settings.registry_host, settings.registry_port)


if __name__ == "__main__":
    main()
