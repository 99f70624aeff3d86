"""Requests and answers, apart from the way they travel: paths, parameters, bodies, and problem documents turned into exceptions."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import BaseModel, RootModel, ValidationError

from quantry.errors import InvalidReference, UnexpectedAnswer
from quantry_core.errors import Problem

KEY_HEADER = "idempotency-key"
USER_AGENT = "quantry-python"
CONNECT_TIMEOUT_S = 5.0

_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,159}")

ModelT = TypeVar("ModelT", bound=BaseModel)

Progress = Callable[[int], object]
"""Told how many bytes were sent or arrived since the last call; negative where some must be sent or fetched once more."""


class Document(RootModel[dict[str, Any]]):
    """A body or an answer whose fields this SDK does not know."""


def path_part(text: str) -> str:
    """Returns an id, name or ``name@number`` as one part of a path; raises InvalidReference if it could be read as more."""
    if not _REFERENCE.fullmatch(text) or ".." in text:
        raise InvalidReference(f"an id or name is made of letters, digits, '.', '_', '-' and '@', not {text[:80]!r}")
    return text


def is_loopback(url: str) -> bool:
    """Tells whether a URL's host is this machine by its name or number; nothing is looked up."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def timeout_of(timeout_s: float) -> httpx.Timeout:
    """Returns for how long a server may say nothing, and a shorter time to be reached in."""
    return httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))


def sent_parameters(params: Mapping[str, object] | None) -> dict[str, str | list[str]] | None:
    """Returns parameters as they are sent, without those that are None; what holds several values is sent as often."""
    return {name: _parameter(value) for name, value in (params or {}).items() if value is not None} or None


def _parameter(value: object) -> str | list[str]:
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [str(item) for item in value]
    return str(value)


def parsed(model: type[ModelT], response: httpx.Response) -> ModelT:
    """Returns an answer as ``model``; raises UnexpectedAnswer where it is another thing."""
    try:
        return model.model_validate_json(response.content)
    except ValidationError as error:
        request = response.request
        raise UnexpectedAnswer(
            f"the answer to {request.method} {request.url.path} is not what this version of the SDK expects: {error}"
        ) from error


def problem_of(response: httpx.Response, body: bytes) -> Problem:
    """Returns a refusal as a problem document, whatever it is."""
    try:
        return Problem.model_validate_json(body)
    except ValidationError:
        text = body[:300].decode(errors="replace").strip()
        detail = f"the server answered {response.status_code} {response.reason_phrase}" + (f": {text}" if text else "")
        return Problem(type="about:blank", title=response.reason_phrase or "Error", status=response.status_code, detail=detail)


def trouble_words(error: httpx.TransportError) -> str:
    """Returns why no answer came."""
    if isinstance(error, httpx.TimeoutException):
        return "it did not answer in time"
    # The number that the operating system has for it helps nobody.
    return re.sub(r"^\[Errno -?\d+\] ", "", str(error)) or type(error).__name__
