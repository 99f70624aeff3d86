"""Settings of the store, read from the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MIGRATIONS_BESIDE_PACKAGE = Path(__file__).resolve().parents[3] / "migrations"
"""Where the migrations lie in a checkout, which is where the editable package is used from."""


class StoreSettings(BaseSettings):
    """How to reach the database, and where its migrations are."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_", frozen=True)

    database_url: str = Field(description="postgresql+psycopg://user@/quantry?host=/path/to/socketdir&port=5432")
    migrations_dir: Path = Field(default=MIGRATIONS_BESIDE_PACKAGE, description="The folder with Alembic's env.py; images set it.")
