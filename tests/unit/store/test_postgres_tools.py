"""pg_restore is told where the database is, and nobody who lists processes is told its password."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from quantry_store.postgres_tools import PostgresTools


@pytest.mark.parametrize(
    "url", ["postgresql+psycopg://q:s3cret@db/quantry", "postgresql+psycopg://q@db/quantry?password=s3cret&sslmode=prefer"]
)
def test_a_password_goes_by_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def run(command: list[str], **how: Any) -> subprocess.CompletedProcess[bytes]:
        seen.update(command=command, environment=how["env"])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    PostgresTools(Path("/bin/pg_dump"), Path("/bin/pg_restore"), 17).restore(url, Path("/tmp/dump"))
    assert "s3cret" not in " ".join(seen["command"])
    assert "host=db" in " ".join(seen["command"])
    assert seen["environment"]["PGPASSWORD"] == "s3cret"
