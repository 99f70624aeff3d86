"""``python -m quantry_worker.enrol``: gives this machine a worker's key of its own, for a one-time token, or rotates that key.

The key goes to a file that only its owner can read; QUANTRY_WORKER_TOKEN_FILE names it to the worker. It is never printed.
"""

from __future__ import annotations

import argparse
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import httpx
from pydantic import ValidationError

from quantry_core.errors import QuantryError
from quantry_core.worker_hosts import MAX_TOKEN_CHARS, EnrolmentExchange, HostKey
from quantry_worker.control import error_of

TIMEOUT_S = 30.0
EXIT_REFUSED = 1
PROGRAM = "python -m quantry_worker.enrol"


class EnrolmentFailed(Exception):
    """What the person at the machine is told."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Enrols or rotates, as the command line says; returns the exit status."""
    given = _parser().parse_args(arguments)
    try:
        key = rotate(given.url, given.key_file) if given.rotate else enrol(given.url, _token_from(given.token_file), given.key_file)
    except (EnrolmentFailed, QuantryError) as error:
        sys.stderr.write(f"{PROGRAM}: {error}\n")
        return EXIT_REFUSED
    sys.stdout.write(f"{key.host.name} ({key.host.id}): the key is in {given.key_file}; start the worker with\n")
    sys.stdout.write(f"QUANTRY_WORKER_TOKEN_FILE={given.key_file}\n")
    return 0


def enrol(url: str, token: str, key_file: Path, *, transport: httpx.BaseTransport | None = None) -> HostKey:
    """Exchanges a one-time token for a key and writes that to ``key_file``; returns it.

    Raises EnrolmentFailed where the file is there already, or cannot be written: the token is not spent then. Raises QuantryError
    for a token that is refused.
    """
    if key_file.exists():
        raise EnrolmentFailed(f"{key_file} is there already: this machine has a key; --rotate exchanges it, or move the file away")
    _check_writable(key_file)
    exchange = EnrolmentExchange(token=token, hostname=socket.gethostname()[:128])
    key = _post(url, "/api/v1/enrol", exchange.model_dump_json(), headers={}, transport=transport)
    write_key(key_file, key.secret)
    return key


def rotate(url: str, key_file: Path, *, transport: httpx.BaseTransport | None = None) -> HostKey:
    """Exchanges the key in ``key_file`` for a new one; the old one works for some minutes more, in which running workers read the file.

    Raises EnrolmentFailed where the file cannot be read or written, QuantryError where the key is refused.
    """
    try:
        secret = key_file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise EnrolmentFailed(f"{key_file} cannot be read: {error}") from error
    _check_writable(key_file)
    key = _post(url, "/api/v1/execution/key/rotate", None, headers={"Authorization": f"Bearer {secret}"}, transport=transport)
    write_key(key_file, key.secret)
    return key


def write_key(key_file: Path, secret: str) -> None:
    """Puts the secret into the file at once, whole, and readable by its owner alone. Raises EnrolmentFailed."""
    try:
        # mkstemp makes files that only their owner can read.
        descriptor, name = tempfile.mkstemp(dir=key_file.parent, prefix=f".{key_file.name}.")
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secret + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(key_file)
    except OSError as error:
        raise EnrolmentFailed(f"{key_file} cannot be written ({error.strerror}): the key is lost; ask for it to be revoked") from error


def _check_writable(key_file: Path) -> None:
    if not key_file.parent.is_dir() or not os.access(key_file.parent, os.W_OK):
        raise EnrolmentFailed(f"{key_file.parent} is no folder that can be written to: make it first")


def _post(url: str, path: str, content: str | None, *, headers: dict[str, str], transport: httpx.BaseTransport | None) -> HostKey:
    fields = headers if content is None else {**headers, "Content-Type": "application/json"}
    try:
        # As the worker does: the control plane is reached directly, and no redirect may carry a secret elsewhere.
        with httpx.Client(base_url=url.rstrip("/"), timeout=TIMEOUT_S, trust_env=False, transport=transport) as client:
            response = client.post(path, content=content, headers=fields)
    except (httpx.TransportError, httpx.InvalidURL) as error:
        raise EnrolmentFailed(f"{url} does not answer: {error}") from error
    if not response.is_success:
        raise error_of(response)
    try:
        return HostKey.model_validate_json(response.content)
    except ValidationError as error:
        raise EnrolmentFailed(f"{url} answers, but not as Quantry does") from error


def _token_from(token_file: Path | None) -> str:
    """Returns the one-time token from a file, or from standard input: an argument would show it to everybody on the machine."""
    try:
        text = sys.stdin.readline(MAX_TOKEN_CHARS * 2) if token_file is None else token_file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EnrolmentFailed(f"the token cannot be read: {error}") from error
    token = text.strip()
    if not 0 < len(token) <= MAX_TOKEN_CHARS:
        raise EnrolmentFailed("a one-time token is needed, as `quantry workers hosts invite` prints it: on standard input, or --token-file")
    return token


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Give this machine a worker's key of its own, or rotate it.")
    parser.add_argument("--url", required=True, help="where Quantry answers: the gateway's origin")
    parser.add_argument("--key-file", required=True, type=Path, help="where the key goes, readable by its owner alone")
    parser.add_argument("--token-file", type=Path, default=None, help="file with the one-time token; standard input where not given")
    parser.add_argument("--rotate", action="store_true", help="exchange the key in the file for a new one")
    return parser


if __name__ == "__main__":
    sys.exit(main())
