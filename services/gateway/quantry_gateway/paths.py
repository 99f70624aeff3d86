"""Which part answers a path. Decided on the raw path, before anything decodes it, so that no spelling leads elsewhere.

Both this process and the service behind it decode a path once. A path that could mean something else after that
(dot segments, encoded slashes, doubled slashes, a second layer of encoding) is refused, not repaired.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache
from typing import ClassVar
from urllib.parse import unquote_to_bytes

from quantry_core.errors import QuantryError

_RAW_PATH = re.compile(rb"/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_UNSAFE_DECODED = re.compile(rb"[/\\%\x00-\x1f\x7f]")

REGISTRY_NOUNS = frozenset({b"models", b"versions", b"datasets", b"seals", b"uploads", b"vault", b"registry"})


class Plane(StrEnum):
    """Who answers a request."""

    ROOT = "root"
    HEALTH = "health"
    LIFE = "life"
    DATA = "data"
    API = "api"
    REGISTRY = "registry"
    NOWHERE = "nowhere"


_OPENAI_NOUNS = {b"files": Plane.REGISTRY, b"fine_tuning": Plane.API}
"""What of OpenAI's API the control plane answers."""


_PROBES = {b"healthz": Plane.HEALTH, b"livez": Plane.LIFE}
"""Asked by what starts and stops gateways."""


class PathRefused(QuantryError):
    """The path is written in a way that two readers could take differently."""

    status: ClassVar[int] = 400
    slug: ClassVar[str] = "path-refused"
    title: ClassVar[str] = "This path is not written plainly"


@lru_cache(maxsize=512)
def plane_of(raw_path: bytes) -> Plane:
    """Returns who answers a raw (still percent-encoded) path; raises PathRefused if it is not plain."""
    segments = _plain_segments(raw_path)
    match segments:
        case [b""]:
            return Plane.ROOT
        case [(b"healthz" | b"livez") as asked]:
            return _PROBES[asked]
        case [b"v1", noun, *_] | [(b"tokenize" | b"detokenize") as noun]:
            return _OPENAI_NOUNS.get(noun, Plane.DATA)
        case (
            [b"api", b"v1", b"jobs", _, b"artifacts", *_]
            | [b"api", b"v1", b"jobs", _, b"checkpoints", _, *_]
            | [b"api", b"v1", b"deployments", _, b"capture", b"dataset"]
            | [b"mlflow", _, *_]
        ):
            return Plane.REGISTRY
        case [b"api", b"v1", noun, *_]:
            return Plane.REGISTRY if noun in REGISTRY_NOUNS else Plane.API
        case _:
            return Plane.NOWHERE


def takes_long(method: str, raw_path: bytes) -> bool:
    """Tells whether the registry reads or writes files before it answers: seals, derivations, and the sending of files and datasets.

    Raises PathRefused as ``plane_of`` does.
    """
    match method, _plain_segments(raw_path):
        case "POST", [b"api", b"v1", b"seals", *_]:
            return True
        case "POST", [b"api", b"v1", b"datasets", _, b"derive"] | [b"api", b"v1", b"deployments", _, b"capture", b"dataset"]:
            return True
        case "PUT", [b"api", b"v1", b"datasets", _]:
            return True
        case "POST", [b"v1", b"files"]:
            return True
        case "PUT", [b"api", b"v1", b"uploads", _, b"files", *_]:
            return True
        case _:
            return False


def _plain_segments(raw_path: bytes) -> list[bytes]:
    if _RAW_PATH.fullmatch(raw_path) is None:
        raise PathRefused("a path begins with / and holds only the characters that RFC 3986 allows")
    segments = [unquote_to_bytes(segment) for segment in raw_path[1:].split(b"/")]
    for segment in segments:
        if segment in {b".", b".."} or _UNSAFE_DECODED.search(segment) is not None:
            raise PathRefused("a path holds no dot segments, no encoded slashes, percent signs or control characters")
    # One empty segment at the end is a trailing slash; anywhere else it is a doubled one.
    if b"" in segments[:-1]:
        raise PathRefused("a path holds no doubled slashes")
    return segments
