"""Makes the secrets that docker-compose.yml mounts: one file each in docker/secrets/. What is there already stays as it is.

    python3 docker/make_secrets.py

Standard library only. The folder is closed to everybody else (0700); the files in it are readable, because Compose mounts them into
containers as they are, whose users are not this machine's.
"""

from __future__ import annotations

import argparse
import base64
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "secrets"
FOLDER_MODE, FILE_MODE = 0o700, 0o644


def word() -> str:
    """Returns 192 random bits that need no escaping in a URL."""
    return secrets.token_hex(24)


def fernet_key() -> str:
    """Returns a Fernet key."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


MADE: dict[str, Callable[[], str]] = {
    "postgres_password": word,
    "redis_password": word,
    "minio_root_password": word,
    "registry_s3_secret_key": word,
    "worker_s3_secret_key": word,
    "reader_s3_secret_key": word,
    "capture_keys": fernet_key,
    "webhook_keys": fernet_key,
    "dashboard_secret": word,
    "grafana_admin_password": word,
}
"""Each is made once. Whoever loses capture_keys or webhook_keys loses what they encrypted: keep a copy elsewhere."""

DERIVED: dict[str, Callable[[Mapping[str, str]], str]] = {
    "database_url": lambda made: f"postgresql+psycopg://quantry:{made['postgres_password']}@postgres:5432/quantry",
    "redis_conf": lambda made: f"requirepass {made['redis_password']}",
    "broker_url": lambda made: f"redis://:{made['redis_password']}@redis:6379/0",
}
"""Written anew each time, of what was made."""


def make(folder: Path) -> list[str]:
    """Returns the names of the files made now. Raises OSError."""
    folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
    folder.chmod(FOLDER_MODE)
    new = []
    values = {}
    for name, make_value in MADE.items():
        path = folder / name
        if not path.is_file():
            write(path, make_value())
            new.append(name)
        values[name] = path.read_text().strip()
    for name, derive in DERIVED.items():
        if not (folder / name).is_file():
            new.append(name)
        write(folder / name, derive(values))
    return new


def write(path: Path, value: str) -> None:
    """Writes a file that appears whole."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "w") as file:
        file.write(value + "\n")
    part.chmod(FILE_MODE)
    part.replace(path)


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, default=FOLDER)
    options = parser.parse_args()
    try:
        new = make(options.folder)
    except OSError as error:
        sys.stderr.write(f"make_secrets: {error}\n")
        return 1
    sys.stdout.write(f"{options.folder}: {', '.join(new) if new else 'nothing was missing'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
