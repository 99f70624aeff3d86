"""The first project and its keys."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from quantry_api.bootstrap import another_admin, bootstrap
from quantry_core.errors import UnknownProject
from quantry_core.keys import hash_key
from quantry_store.database import Database

SECRETS = {"admin_key": "admin", "worker_token": "worker", "gateway_token": "gateway"}


def run(database_url: str, *arguments: str) -> dict[str, str]:
    """Runs the command as the stack does and returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "quantry_api.bootstrap", *arguments],
        env={**os.environ, "QUANTRY_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    printed: dict[str, str] = json.loads(done.stdout)
    for name in SECRETS:
        assert printed.get(name, "no secret") not in done.stderr
    return printed


async def roles_of(database_url: str, printed: dict[str, str]) -> dict[str, str | None]:
    """Returns the role that each printed secret opens; None where it opens nothing."""
    database = Database(database_url)
    try:
        async with database.begin() as uow:
            found = {name: await uow.keys.identify(hash_key(printed[name])) for name in SECRETS if name in printed}
    finally:
        await database.close()
    return {name: None if known is None else str(known.identity.role) for name, known in found.items()}


async def test_the_command_makes_each_key_once(database_url: str) -> None:
    first = run(database_url)
    assert await roles_of(database_url, first) == SECRETS
    database = Database(database_url)
    assert await bootstrap(database) == {"project_id": first["project_id"]}
    rotated = await bootstrap(database, frozenset({"worker", "admin"}))
    async with database.begin() as uow:
        search_id = await uow.projects.get_or_create("search")
    lost = await another_admin(database, "search")
    with pytest.raises(UnknownProject):
        await another_admin(database, "nowhere")
    await database.close()
    assert (lost["project_id"], await roles_of(database_url, lost)) == (search_id, {"admin_key": "admin"})
    assert set(rotated) == {"project_id", "worker_token", "admin_key"}
    assert rotated["project_id"] == first["project_id"]
    assert await roles_of(database_url, rotated) == {"admin_key": "admin", "worker_token": "worker"}
    assert await roles_of(database_url, first) == {"admin_key": None, "worker_token": None, "gateway_token": "gateway"}
