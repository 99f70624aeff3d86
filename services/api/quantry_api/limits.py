"""``python -m quantry_api.limits``: shows or changes what a project may use. For whoever runs the platform, not for projects.

Prints the project as JSON. What is not named stays as it is; ``none`` takes a bound away.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from pydantic import ValidationError

from quantry_core.errors import QuantryError
from quantry_core.projects import Project, ProjectLimits
from quantry_store.database import Database
from quantry_store.settings import StoreSettings
from quantry_telemetry.logs import configure_logging

UNBOUNDED = "none"


async def change_limits(database: Database, name: str, changes: dict[str, Any]) -> Project:
    """Returns the project of that name after ``changes`` to its limits, in one transaction.

    Raises NotFound for an unknown project, ValidationError for a limit that cannot be.
    """
    async with database.begin() as uow:
        limits = await uow.projects.limits_of(name)
        return await uow.projects.set_limits(name, ProjectLimits.model_validate(limits.model_dump() | changes))


async def _run(name: str, changes: dict[str, Any]) -> Project:
    database = Database(StoreSettings().database_url, pool_size=1)
    try:
        return await change_limits(database, name, changes)
    finally:
        await database.close()


def main() -> None:
    """Reads the command line and the environment, and prints the result; exits with 2 for limits that cannot be."""
    parser = argparse.ArgumentParser(prog="python -m quantry_api.limits", description="Show or change what a project may use.")
    parser.add_argument("--project", required=True, help="the project's name")
    parser.add_argument(
        "--share", type=float, default=argparse.SUPPRESS, help="weight against other projects where they compete for workers"
    )
    parser.add_argument("--max-queued", type=_bound, default=argparse.SUPPRESS, help=f"jobs in queues, or {UNBOUNDED}")
    parser.add_argument("--max-running", type=_bound, default=argparse.SUPPRESS, help=f"jobs on workers, or {UNBOUNDED}")
    changes = vars(parser.parse_args())
    name = changes.pop("project")
    configure_logging("limits")
    try:
        project = asyncio.run(_run(name, changes))
    except ValidationError as error:
        problem = error.errors()[0]
        parser.error(f"--{str(problem['loc'][0]).replace('_', '-')}: {problem['msg']}")
    except QuantryError as error:
        parser.error(error.detail)
    sys.stdout.write(project.model_dump_json() + "\n")


def _bound(text: str) -> int | None:
    return None if text == UNBOUNDED else int(text)


if __name__ == "__main__":
    main()
