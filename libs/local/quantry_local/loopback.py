"""HTTP to a part of this stack: directly, whatever proxy the caller's environment names for the way out."""

from __future__ import annotations

import urllib.request
from http.client import HTTPResponse
from typing import cast

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def open_directly(url: str, *, timeout_s: float) -> HTTPResponse:
    """Returns the open answer to a GET; raises as urllib does: HTTPError from status 300 on, OSError where none comes."""
    return cast(HTTPResponse, _DIRECT.open(url, timeout=timeout_s))
