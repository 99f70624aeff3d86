"""pg_dump and pg_restore: found, looked at, and run against the database of a SQLAlchemy address."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, BinaryIO

from psycopg.conninfo import make_conninfo
from sqlalchemy import make_url

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CONNECT_TIMEOUT_S = 10
PASSED_ON = ("PATH", "HOME", "LD_LIBRARY_PATH", "TMPDIR", "SSL_CERT_FILE")
STREAM_BYTES = 1024**2
NUM_LAST_LINES = 3
"""Of what a program said before it failed, so many lines say why."""


class DumpError(Exception):
    """The database could not be dumped or brought back. The message says what to do."""


@dataclass(frozen=True)
class PostgresTools:
    """The two programs, and the major version of Postgres that they are of."""

    pg_dump: Path
    pg_restore: Path
    major: int

    @classmethod
    def find(cls, folder: Path | None) -> PostgresTools:
        """Returns the programs of ``folder``, else those on PATH; raises DumpError where one is missing."""
        pg_dump, pg_restore = (_find(name, folder) for name in ("pg_dump", "pg_restore"))
        said = subprocess.run([str(pg_dump), "--version"], capture_output=True, text=True, check=False, env=_environment(None), timeout=60)
        version = re.search(r"\) (\d+)", said.stdout)
        if version is None:
            raise DumpError(f"{pg_dump} does not say its version: {(said.stderr or said.stdout).strip()}")
        return cls(pg_dump, pg_restore, int(version[1]))

    @contextmanager
    def dumping(self, url: str, snapshot: str) -> Iterator[BinaryIO]:
        """Yields the dump of a database as an exported snapshot shows it, in pg_dump's custom format, while it is made.

        Reading it raises DumpError at its end where pg_dump failed: what was read until then is no dump.
        """
        options = ["--format=custom", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"]
        with tempfile.TemporaryFile() as errors:
            process = subprocess.Popen(
                [str(self.pg_dump), *options, *_address(url)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=_environment(url),
            )
            try:
                assert process.stdout is not None  # noqa: S101  asked for above
                yield io.BufferedReader(_Output(process, process.stdout, errors), STREAM_BYTES)
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()

    def restore(self, url: str, dump: Path) -> None:
        """Brings a dump into an empty database, all of it or nothing; raises DumpError saying why not."""
        options = ["--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"]
        command = [str(self.pg_restore), *options, *_address(url), str(dump)]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=_environment(url))
        if done.returncode != 0:
            raise DumpError(f"pg_restore failed, and the database is as it was before: {_last_words(done.stderr)}")


class _Output(io.RawIOBase):
    """What a process writes, whose failure is an error of the reading."""

    def __init__(self, process: subprocess.Popen[bytes], output: IO[bytes], errors: IO[bytes]) -> None:
        self._process = process
        self._output = output
        self._errors = errors

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        num_bytes: int = self._output.readinto(buffer)  # type: ignore[attr-defined]  # a pipe's reader has it
        if num_bytes == 0 and self._process.wait() != 0:
            self._errors.seek(0)
            raise DumpError(f"pg_dump failed: {_last_words(self._errors.read())}")
        return num_bytes


def _find(name: str, folder: Path | None) -> Path:
    found = shutil.which(name, path=None if folder is None else str(folder))
    if found is None:
        where = "on PATH" if folder is None else f"in {folder}"
        raise DumpError(
            f"there is no {name} {where}: install the client programs of Postgres, or name their folder with QUANTRY_BACKUP_PG_BIN"
        )
    return Path(found)


def _address(url: str) -> Sequence[str]:
    """Returns where the database is, in libpq's words; the password goes by the environment, where ``ps`` does not show it."""
    parsed = make_url(url)
    query = {name: value for name, value in parsed.query.items() if isinstance(value, str) and name != "password"}
    parts = {"host": parsed.host, "port": parsed.port, "user": parsed.username, "dbname": parsed.database, **query}
    given = {name: str(value) for name, value in parts.items() if value is not None}
    return ["--dbname", make_conninfo("", connect_timeout=CONNECT_TIMEOUT_S, **given)]


def _environment(url: str | None) -> dict[str, str]:
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"LC_ALL": "C"}
    parsed = None if url is None else make_url(url)
    # libpq takes it from the address's query too.
    password = None if parsed is None else parsed.password or parsed.query.get("password")
    return environment if password is None else {**environment, "PGPASSWORD": str(password)}


def _last_words(said: bytes) -> str:
    lines = [line for line in said.decode("utf-8", "replace").splitlines() if line.strip()]
    return " ".join(lines[-NUM_LAST_LINES:]) or "it said nothing"
