"""Where the server is and which key to use. What is nearer comes first:

1. what was given: ``url`` and ``api_key``, on the command line ``--url`` and ``--api-key``,
2. the profile that was given: ``profile``, ``--profile``,
3. QUANTRY_URL and QUANTRY_API_KEY,
4. the profile that QUANTRY_PROFILE names,
5. the client.json that ``quantry up`` wrote below $QUANTRY_STATE_DIR, or below ./.quantry,
6. the profile that ``quantry config use`` chose,
7. http://127.0.0.1:8000, with whatever key was found.

Address and key are looked for one by one, but a key that was kept with an address goes to that address only.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quantry.errors import ConfigurationError
from quantry.profiles import profiles_path, read_profiles

DEFAULT_URL = "http://127.0.0.1:8000"
CLIENT_FILE_NAME = "client.json"
DEFAULT_STATE_DIR = ".quantry"


class ClientFile(BaseModel):
    """``<state dir>/client.json``, mode 0600, written by the embedded stack."""

    model_config = ConfigDict(frozen=True)

    url: str
    api_key: str = Field(repr=False)


class Connection(BaseModel):
    """A server and a key for it."""

    model_config = ConfigDict(frozen=True)

    url: str
    api_key: str = Field(repr=False)
    url_from: str = ""
    """Where the address was found, in words."""
    key_from: str = ""


@dataclass(frozen=True)
class _Place:
    """One of the places that are looked at."""

    words: str
    url: str | None
    api_key: str | None
    is_pair: bool
    """The key was kept with the address, and is for it alone."""


def client_file_path(environ: Mapping[str, str] = os.environ) -> Path:
    """Returns where the embedded stack's client.json is looked for: below $QUANTRY_STATE_DIR, or ./.quantry."""
    return Path(environ.get("QUANTRY_STATE_DIR") or DEFAULT_STATE_DIR) / CLIENT_FILE_NAME


def resolve_connection(
    url: str | None, api_key: str | None, environ: Mapping[str, str] = os.environ, *, profile: str | None = None
) -> Connection:
    """Returns the server and key to use; raises ConfigurationError naming every place that was looked at.

    The order of places is this module's docstring. Places that come after address and key are both known are not even read.
    """
    chosen_url: tuple[str, str] | None = None
    chosen_key: tuple[str, str] | None = None
    for place in _places(url, api_key, profile, environ):
        if chosen_url is None and place.url is not None:
            chosen_url = place.url, place.words
        is_meant = not place.is_pair or (chosen_url is not None and place.url is not None and _plain(chosen_url[0]) == _plain(place.url))
        if chosen_key is None and place.api_key is not None and is_meant:
            chosen_key = place.api_key, place.words
        if chosen_url is not None and chosen_key is not None:
            break
    if chosen_key is None:
        raise ConfigurationError(
            f"no API key found{f' for {chosen_url[0]}' if chosen_url else ''}: pass api_key (on the command line --api-key), "
            f"set QUANTRY_API_KEY, make a profile with 'quantry config set-profile', or run 'quantry up', which writes "
            f"{client_file_path(environ)}"
        )
    found_url, url_from = chosen_url or (DEFAULT_URL, "the default")
    return Connection(url=checked_url(found_url), api_key=checked_key(chosen_key[0]), url_from=url_from, key_from=chosen_key[1])


def _places(url: str | None, api_key: str | None, profile: str | None, environ: Mapping[str, str]) -> Iterator[_Place]:
    """Yields the places in their order, each read when its turn comes."""
    yield _Place("what was given", url or None, api_key or None, is_pair=False)
    if profile:
        yield _profile(profile, environ, f"the profile {profile}")
    yield _Place("the environment", environ.get("QUANTRY_URL") or None, environ.get("QUANTRY_API_KEY") or None, is_pair=False)
    if environ.get("QUANTRY_PROFILE") and not profile:
        yield _profile(environ["QUANTRY_PROFILE"], environ, f"the profile {environ['QUANTRY_PROFILE']}, by QUANTRY_PROFILE")
    path = client_file_path(environ)
    file = _read(path)
    if file is not None:
        yield _Place(str(path), file.url, file.api_key, is_pair=True)
    current = read_profiles(profiles_path(environ)).current
    if current is not None:
        yield _profile(current, environ, f"the profile {current}, in use")


def _profile(name: str, environ: Mapping[str, str], words: str) -> _Place:
    found = read_profiles(profiles_path(environ)).named(name)
    return _Place(words, found.url, found.api_key.get_secret_value(), is_pair=True)


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


def checked_url(url: str) -> str:
    """Returns a server's address without a slash at its end; raises ConfigurationError for what cannot be one."""
    try:
        parts = urlsplit(url)
        is_usable = (
            parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0 and not parts.query and "@" not in parts.netloc
        )
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL):
        is_usable = False
    if not is_usable:
        raise ConfigurationError(f"the server's address is written like http://127.0.0.1:8000, not {url!r}")
    return _plain(url)


def checked_key(api_key: str) -> str:
    """Returns an API key; raises ConfigurationError, without it, for what cannot be one."""
    if not api_key or not (api_key.isascii() and api_key.isprintable()) or " " in api_key:
        raise ConfigurationError("the API key is empty or holds characters that no key has; was it pasted whole?")
    return api_key
