"""Alembic's environment. Run through ``python -m quantry_store.migrate``, which hands in a connection inside a transaction."""

from alembic import context
from sqlalchemy import Connection, text

from quantry_store.tables import Base

MIGRATION_LOCK = 7_305_801_129
"""Held for the length of the migrating transaction only, so that two migrations at once run one after the other."""

connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=Base.metadata, compare_server_default=True)
with context.begin_transaction():
    connection.execute(text("select pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
    context.run_migrations()
