"""Brings the database's schema to a revision: ``python -m quantry_store.migrate [upgrade|downgrade] [revision]``."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import NullPool, create_engine

from quantry_core.secret_files import take_secret_files
from quantry_store.settings import StoreSettings

CONNECT_TIMEOUT_S = 10

_log = logging.getLogger("quantry_store.migrate")


def upgrade(settings: StoreSettings, revision: str = "head") -> None:
    """Applies migrations up to ``revision``, all or none. Two at once are safe: the second waits, then finds nothing to do.

    Raises SQLAlchemy's OperationalError when the database is away.
    """
    _run(settings, lambda config: command.upgrade(config, revision))


def downgrade(settings: StoreSettings, revision: str) -> None:
    """Takes migrations back down to ``revision`` ("base" for all), all or none. Refused by a migration that would lose a master."""
    _run(settings, lambda config: command.downgrade(config, revision))


def check(settings: StoreSettings) -> None:
    """Raises alembic's CommandError naming each difference between the migrated database and the tables in code."""
    _run(settings, command.check)


def current_revision(settings: StoreSettings) -> str | None:
    """Returns the revision the database is at; None where nothing was ever migrated."""
    engine = create_engine(settings.database_url, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_TIMEOUT_S})
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def knows(settings: StoreSettings, revision: str) -> bool:
    """Tells whether ``revision`` is one of the migrations of this code."""
    return any(script.revision == revision for script in ScriptDirectory(str(settings.migrations_dir)).walk_revisions())


def _run(settings: StoreSettings, action: Callable[[Config], None]) -> None:
    if not (settings.migrations_dir / "env.py").is_file():
        raise FileNotFoundError(f"there are no migrations in {settings.migrations_dir}; set QUANTRY_MIGRATIONS_DIR to where they are")
    config = Config()
    config.set_main_option("script_location", str(settings.migrations_dir).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    engine = create_engine(settings.database_url, poolclass=NullPool, connect_args={"connect_timeout": CONNECT_TIMEOUT_S})
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        action(config)


def main(arguments: list[str] | None = None) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m quantry_store.migrate", description="Migrates Quantry's database.")
    parser.add_argument("action", nargs="?", choices=["upgrade", "downgrade", "check"], default="upgrade")
    parser.add_argument("revision", nargs="?", help="for upgrade: head where not given; downgrade needs one, such as base")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    take_secret_files("migrate")
    settings = StoreSettings()
    if options.action == "downgrade":
        if options.revision is None:
            parser.error("downgrade needs a revision; base takes everything back")
        downgrade(settings, options.revision)
    elif options.action == "check":
        check(settings)
    else:
        upgrade(settings, options.revision or "head")
    _log.info("the database is at revision %s", current_revision(settings) or "base")
    return 0


if __name__ == "__main__":
    sys.exit(main())
