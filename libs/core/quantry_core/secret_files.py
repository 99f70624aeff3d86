"""Secrets that lie in files: ``QUANTRY_DATABASE_URL_FILE`` names the file that holds what ``QUANTRY_DATABASE_URL`` would.

Compose and Kubernetes mount secrets as files. Every process calls ``take_secret_files`` once, before it reads a setting, so
that each setting of each service can come from a file, and none has to know. It is the one place of this package that reads
anything: the gateway and the dashboard see no lower one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

PREFIX = "QUANTRY_"
SUFFIX = "_FILE"
MAX_SECRET_BYTES = 64 * 1024
"""No secret is longer; a wrong path may name anything."""


class SecretFileRefused(ValueError):
    """A variable names a file that cannot be used. The message names both, and never what the file holds."""


def take_secret_files(program: str) -> None:
    """Reads the secrets of this process from the files that its environment names; ends it with a sentence where that fails."""
    try:
        read_secret_files(os.environ)
    except SecretFileRefused as error:
        sys.exit(f"{program}: {error}")


def read_secret_files(environment: MutableMapping[str, str]) -> None:
    """Puts into ``environment`` what the files hold that its ``QUANTRY_..._FILE`` variables name, without a last line break.

    Variables that are empty count as not set. Raises SecretFileRefused for a file that is missing, unreadable, empty, not
    text or longer than MAX_SECRET_BYTES, and where a variable is given both ways with different values.
    """
    for name, path in sorted(environment.items()):
        if name.startswith(PREFIX) and name.endswith(SUFFIX) and path:
            variable = name.removesuffix(SUFFIX)
            value = _read(name, Path(path))
            if environment.get(variable) not in {None, "", value}:
                raise SecretFileRefused(f"{variable} and {name} are both set, to different values: keep one of them")
            environment[variable] = value


def _read(name: str, path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
        value = content.decode().rstrip("\r\n")
    except OSError as error:
        raise SecretFileRefused(f"{name}: {path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError:
        # Without the cause: it would show the bytes.
        raise SecretFileRefused(f"{name}: {path} is not text") from None
    if len(content) > MAX_SECRET_BYTES:
        raise SecretFileRefused(f"{name}: {path} is longer than {MAX_SECRET_BYTES} bytes; is it a secret?")
    if not value:
        raise SecretFileRefused(f"{name}: {path} is empty")
    if "\x00" in value:
        raise SecretFileRefused(f"{name}: {path} is not text")
    return value
