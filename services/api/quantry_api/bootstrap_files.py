"""``python -m quantry_api.bootstrap_files --folder DIR``: the first keys, put into files that the services of one host mount.

Makes what ``quantry_api.bootstrap`` makes. Each secret gets a folder of its own, so that a service is given its own and no other:
``DIR/worker/worker_token``, ``DIR/gateway/gateway_token``, ``DIR/admin/admin_key``. Safe to repeat, and nothing is lost where it
breaks off: a key that the database has and no file holds is made anew. ``--show-admin`` prints the admin key, once, and forgets it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from quantry_api.bootstrap import FIRST_KEYS, FirstKey, bootstrap
from quantry_core.errors import QuantryError
from quantry_core.secret_files import take_secret_files
from quantry_store.database import Database
from quantry_store.settings import StoreSettings
from quantry_telemetry.logs import configure_logging

PROGRAM = "python -m quantry_api.bootstrap_files"
GIVEN = "shown"
"""Beside the admin key: a person has it, so it is not made anew where its file is gone."""
FILE_MODE = 0o600


class KeyFiles:
    """The files with the first keys."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def missing(self) -> frozenset[str]:
        """Returns the names of the first keys that no file holds and nobody was shown."""
        return frozenset(first.name for first in FIRST_KEYS if not self.path(first).is_file() and not self._marker(first).is_file())

    def keep(self, first: FirstKey, secret: str) -> None:
        """Writes a secret, for its owner alone; raises OSError."""
        path = self.path(first)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
        with os.fdopen(descriptor, "w") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
        self._marker(first).unlink(missing_ok=True)

    def take_admin(self) -> str | None:
        """Returns the admin key and forgets it; None where it was shown before or never made."""
        [admin] = [first for first in FIRST_KEYS if first.name == "admin"]
        path = self.path(admin)
        if not path.is_file():
            return None
        secret = path.read_text().strip()
        # The marker first: the other way round a break between the two would have the key made anew.
        self._marker(admin).touch(mode=FILE_MODE)
        path.unlink()
        return secret

    def path(self, first: FirstKey) -> Path:
        """Returns where a key's secret lies."""
        return self._folder / first.name / first.printed_as

    def _marker(self, first: FirstKey) -> Path:
        return self._folder / first.name / GIVEN


async def fill(database: Database, files: KeyFiles, rotate: frozenset[str] = frozenset()) -> list[str]:
    """Has the files hold the first keys, those of ``rotate`` made anew; returns the names of the keys made now.

    The database is asked first and the files written last: what is lost in between is found missing the next time.
    """
    made = await bootstrap(database, rotate=files.missing() | rotate)
    new = [first for first in FIRST_KEYS if first.printed_as in made]
    for first in new:
        await asyncio.to_thread(files.keep, first, made[first.printed_as])
    return [first.name for first in new]


async def _run(files: KeyFiles, rotate: frozenset[str]) -> list[str]:
    database = Database(StoreSettings().database_url, pool_size=1)
    try:
        return await fill(database, files, rotate)
    finally:
        await database.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the command line and the environment; returns the exit status."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rotate", action="append", choices=[first.name for first in FIRST_KEYS], default=[], help="make this key anew")
    parser.add_argument("--show-admin", action="store_true", help="print the admin key, this once, and do nothing else")
    given = parser.parse_args(arguments)
    files = KeyFiles(given.folder)
    if given.show_admin:
        return _show_admin(files)
    take_secret_files(PROGRAM)
    configure_logging("bootstrap")
    try:
        made = asyncio.run(_run(files, frozenset(given.rotate)))
    except (QuantryError, OSError) as error:
        sys.stderr.write(f"{PROGRAM}: {error}; starting again makes up for it\n")
        return 1
    sys.stderr.write(f"made: {', '.join(made) or 'nothing, every key is there'}\n")
    return 0


def _show_admin(files: KeyFiles) -> int:
    secret = files.take_admin()
    if secret is None:
        sys.stderr.write("the admin key was shown before, or was not made yet; --rotate admin makes another and ends the one before\n")
        return 1
    sys.stdout.write(f"{secret}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
