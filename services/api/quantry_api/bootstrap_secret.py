"""``python -m quantry_api.bootstrap_secret --name quantry-keys``: the first keys, put where a cluster's services read them.

Makes what ``quantry_api.bootstrap`` makes, and writes the new secrets into an existing Secret of its own namespace. Safe to repeat, and
nothing is lost where it breaks off: a key that the database has and the Secret never got is made anew. It prints no secret.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx2
import structlog
from lightkube import ApiError, Client
from lightkube.resources.core_v1 import Secret
from lightkube.types import PatchType

from quantry_api.bootstrap import FIRST_KEYS, bootstrap
from quantry_core.errors import Unavailable
from quantry_core.secret_files import take_secret_files
from quantry_store.database import Database
from quantry_store.settings import StoreSettings
from quantry_telemetry.logs import configure_logging

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
"""Where Kubernetes tells a pod its namespace."""

GIVEN = "quantry.dev/admin-key-given"
"""Annotation of a Secret that has held the admin key. A person may take the key out; it is not made anew then, which would end theirs."""

_log = structlog.get_logger(__name__)


class KeySecret:
    """The Secret with the first keys."""

    def __init__(self, client: Client, name: str, namespace: str) -> None:
        self._client = client
        self._name = name
        self._namespace = namespace

    def missing(self) -> frozenset[str]:
        """Returns the names of the first keys that it should hold and does not; raises Unavailable if it cannot be read."""
        secret = self._asked(lambda: self._client.get(Secret, self._name, namespace=self._namespace))
        held = set(secret.data or {})
        annotations = (secret.metadata.annotations if secret.metadata else None) or {}
        missing = {first.name for first in FIRST_KEYS if first.printed_as not in held}
        return frozenset(missing - ({"admin"} if GIVEN in annotations else set()))

    def keep(self, secrets: Mapping[str, str]) -> None:
        """Adds entries; raises Unavailable if they were not taken."""
        patch: dict[str, Any] = {"stringData": dict(secrets)}
        if "admin_key" in secrets:
            patch["metadata"] = {"annotations": {GIVEN: "true"}}
        self._asked(lambda: self._client.patch(Secret, self._name, patch, namespace=self._namespace, patch_type=PatchType.MERGE))

    def _asked(self, ask: Callable[[], Secret]) -> Secret:
        try:
            return ask()
        except ApiError as error:
            raise Unavailable(f"the cluster refused Secret {self._namespace}/{self._name}: {error.status.message}") from error
        except httpx2.HTTPError as error:
            raise Unavailable(f"the cluster's API server did not answer: {error!r}") from error


async def fill(database: Database, secret: KeySecret) -> list[str]:
    """Has the Secret hold the first keys; returns the names of the entries written now.

    The database is asked first and the Secret written last: what is lost in between is found missing the next time.
    """
    missing = await asyncio.to_thread(secret.missing)
    made = await bootstrap(database, rotate=missing)
    written = {first.printed_as: made[first.printed_as] for first in FIRST_KEYS if first.printed_as in made}
    if written:
        await asyncio.to_thread(secret.keep, written)
    return sorted(written)


async def _run(secret: KeySecret) -> list[str]:
    database = Database(StoreSettings().database_url, pool_size=1)
    try:
        return await fill(database, secret)
    finally:
        await database.close()


def main() -> int:
    """Reads the command line and the environment; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m quantry_api.bootstrap_secret", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--name", required=True, help="the Secret; it must be there, and this pod may get and patch it")
    arguments = parser.parse_args()
    take_secret_files("bootstrap")
    configure_logging("bootstrap")
    namespace = NAMESPACE_FILE.read_text().strip()
    with Client(namespace=namespace) as client:
        try:
            written = asyncio.run(_run(KeySecret(client, arguments.name, namespace)))
        except Unavailable as error:
            _log.error("the first keys were not stored; starting again makes up for it", problem=error.detail)
            return 1
    _log.info("the first keys are in the Secret", secret=arguments.name, written=written)
    return 0


if __name__ == "__main__":
    sys.exit(main())
