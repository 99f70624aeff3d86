"""Which migration is the newest, read from the files alone: a service asks that at its start, and alembic takes a while to load."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path


@cache
def newest_revision(migrations_dir: Path) -> str | None:
    """Returns the newest migration of this code; None where its migrations are not there. Read once.

    Raises ValueError where not exactly one migration is followed by no other.
    """
    followed: dict[str, str | None] = {}
    for path in sorted((migrations_dir / "versions").glob("*.py")):
        said = _constants(path)
        followed[str(said["revision"])] = said["down_revision"]
    newest = followed.keys() - followed.values()
    if len(newest) > 1 or (followed and not newest):
        raise ValueError(f"{migrations_dir} has no one newest migration: {', '.join(sorted(newest)) or 'they follow each other in a ring'}")
    return next(iter(newest), None)


def _constants(path: Path) -> dict[str, str | None]:
    """Returns the texts, or None, that a module gives to names."""
    assigned: dict[str, str | None] = {}
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            value = statement.value.value
            assigned |= {
                target.id: value
                for target in statement.targets
                if isinstance(target, ast.Name) and (value is None or isinstance(value, str))
            }
    return assigned
