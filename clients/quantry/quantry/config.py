"""Where the server is and which key to use: arguments, then the environment, then what ``quantry up`` wrote."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from quantry.errors import ConfigurationError

DEFAULT_URL = "http://127.0.0.1:8000"
CLIENT_FILE_NAME = "client.json"
DEFAULT_STATE_DIR = ".quantry"


class ClientFile(BaseModel):
    """``<state dir>/client.json``, mode 0600, written by the embedded stack."""

    model_config = ConfigDict(frozen=True)

    url: str
    api_key: str


class Connection(BaseModel):
    """A server and a key for it."""

    model_config = ConfigDict(frozen=True)

    url: str
    api_key: str


def client_file_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns where the embedded stack's client.json is looked for: below $QUANTRY_STATE_DIR, or ./.quantry."""
    return Path(environ.get("QUANTRY_STATE_DIR") or DEFAULT_STATE_DIR) / CLIENT_FILE_NAME


def resolve_connection(url: str | None, api_key: str | None, environ: Mapping[str, str] = os.environ) -> Connection:
    """Returns the server and key to use; raises ConfigurationError naming every place that was looked at.

    A key from the file is only ever used for the server named in the same file, so that it is not sent elsewhere.
    """
    chosen_url = url or environ.get("QUANTRY_URL") or None
    chosen_key = api_key or environ.get("QUANTRY_API_KEY") or None
    path = client_file_path(environ)
    file = _read(path) if chosen_url is None or chosen_key is None else None
    if file is not None and chosen_url is None:
        chosen_url = file.url
    if file is not None and chosen_key is None and chosen_url is not None and _plain(chosen_url) == _plain(file.url):
        chosen_key = file.api_key
    if chosen_key is None:
        raise ConfigurationError(
            f"no API key found: pass api_key (on the command line --api-key), set QUANTRY_API_KEY, or run 'quantry up', which writes {path}"
        )
    if not (chosen_key.isascii() and chosen_key.isprintable()) or " " in chosen_key:
        raise ConfigurationError("the API key holds characters that no key has; was it pasted whole?")
    return Connection(url=_checked(chosen_url or DEFAULT_URL), api_key=chosen_key)


def _read(path: Path) -> ClientFile | None:
    try:
        return ClientFile.model_validate_json(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise ConfigurationError(f'{path} is not of the form {{"url": ..., "api_key": ...}}') from error


def _plain(url: str) -> str:
    return url.rstrip("/")


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and not parts.query
    except ValueError:
        is_usable = False
    if not is_usable:
        raise ConfigurationError(f"the server's address is written like http://127.0.0.1:8000, not {url!r}")
    return _plain(url)
