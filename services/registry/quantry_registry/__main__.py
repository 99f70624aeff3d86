"""``python -m quantry_registry``: serves the registry until it is told to stop."""

from __future__ import annotations

from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_http.logs import configure_logging
from quantry_http.server import serve
from quantry_registry.app import make_app
from quantry_registry.parts import make_parts
from quantry_registry.settings import RegistrySettings
from quantry_store.database import Database
from quantry_store.settings import StoreSettings


def main() -> None:
    """Reads the settings from the environment and serves."""
    configure_logging("registry")
    settings = RegistrySettings()
    blob_settings = BlobSettings()
    database = Database(StoreSettings().database_url)
    parts = make_parts(settings, blob_settings, MinioStore(blob_settings))
    serve(make_app(database, parts), settings.registry_host, settings.registry_port)


if __name__ == "__main__":
    main()
