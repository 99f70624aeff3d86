"""``python -m quantry_api.bootstrap``: makes the first project and the three keys that a stack needs. Safe to repeat.

Prints one JSON object: the project's id and the secrets of the keys made by this run, which cannot be had again. With ``--admin-of`` it
makes another admin's key in any project, and nothing else: for one whose own were lost or have expired.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator
from typing import NamedTuple

from quantry_core.errors import UnknownProject
from quantry_core.keys import ApiKey, Role
from quantry_core.pages import MAX_LIMIT
from quantry_core.secret_files import take_secret_files
from quantry_store.database import Database
from quantry_store.settings import StoreSettings
from quantry_store.unit_of_work import UnitOfWork
from quantry_telemetry.logs import configure_logging

PROJECT = "default"


class FirstKey(NamedTuple):
    """A key that every stack has: its name, and under which name its secret is printed."""

    name: str
    role: Role
    printed_as: str


FIRST_KEYS = (
    FirstKey("admin", Role.ADMIN, "admin_key"),
    FirstKey("worker", Role.WORKER, "worker_token"),
    FirstKey("gateway", Role.GATEWAY, "gateway_token"),
)


async def bootstrap(database: Database, rotate: frozenset[str] = frozenset()) -> dict[str, str]:
    """Returns ``project_id`` and the secrets of the keys made now, in one transaction: those missing, and those to ``rotate``.

    A key counts as there if one of its name and role is not revoked. Rotating revokes all of that name and role.
    """
    async with database.begin() as uow:
        project_id = await uow.projects.get_or_create(PROJECT)
        await uow.projects.make_platform(project_id)
        printed = {"project_id": project_id}
        valid = [key async for key in _valid_keys(uow, project_id)]
        for first in FIRST_KEYS:
            mine = [key for key in valid if (key.name, key.role) == (first.name, first.role)]
            if mine and first.name not in rotate:
                continue
            for key in mine:
                await uow.keys.revoke(project_id, key.id, who=None)
            _, secret = await uow.keys.create(project_id, first.name, first.role)
            printed[first.printed_as] = secret
    return printed


async def another_admin(database: Database, project: str) -> dict[str, str]:
    """Returns ``project_id`` and the secret of a new admin's key in the project of that name or id; the keys it has stay.

    Raises UnknownProject.
    """
    [admin] = [first for first in FIRST_KEYS if first.role is Role.ADMIN]
    async with database.begin() as uow:
        project_id = (await uow.projects.find(project)).id
        _, secret = await uow.keys.create(project_id, admin.name, admin.role)
    return {"project_id": project_id, admin.printed_as: secret}


async def _valid_keys(uow: UnitOfWork, project_id: str) -> AsyncIterator[ApiKey]:
    after: str | None = None
    while True:
        page = await uow.keys.list(project_id, after=after, limit=MAX_LIMIT)
        for key in page.data:
            if key.revoked_at is None:
                yield key
        if not page.has_more:
            return
        after = page.last_id


async def _run(rotate: frozenset[str], admin_of: str | None) -> dict[str, str]:
    database = Database(StoreSettings().database_url, pool_size=1)
    try:
        return await bootstrap(database, rotate) if admin_of is None else await another_admin(database, admin_of)
    finally:
        await database.close()


def main() -> None:
    """Reads the command line and the environment, and prints the result."""
    parser = argparse.ArgumentParser(prog="python -m quantry_api.bootstrap", description="Make the first project and its keys.")
    names = [first.name for first in FIRST_KEYS]
    parser.add_argument("--rotate", action="append", choices=names, default=[], help="revoke this key and make another; may be repeated")
    parser.add_argument("--admin-of", metavar="PROJECT", help="make another admin's key in this project, and nothing else")
    arguments = parser.parse_args()
    if arguments.admin_of is not None and arguments.rotate:
        parser.error("--admin-of makes one key and rotates none: leave --rotate out")
    take_secret_files("bootstrap")
    configure_logging("bootstrap")
    try:
        printed = asyncio.run(_run(frozenset(arguments.rotate), arguments.admin_of))
    except UnknownProject as error:
        parser.error(error.detail)
    sys.stdout.write(json.dumps(printed) + "\n")


if __name__ == "__main__":
    main()
