"""Header fields of a proxy: what is passed on, what is not, and what is added."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable

from quantry_core.traces import TRACEPARENT_HEADER

RawHeaders = list[tuple[bytes, bytes]]

_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"expect",
    }
)
"""RFC 9110, section 7.6.1; and expect, because uvicorn answers 100-continue itself."""

_OURS = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-request-id"})
"""What a client claims here is not believed: this is the public origin."""

_TRACE_CONTEXT = frozenset({b"traceparent", b"tracestate"})

_SERVER_ADDS = frozenset({b"date", b"server", b"x-request-id"})

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")


def header_value(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> bytes | None:
    """Returns the first value of a field (name in lower case), or None."""
    return next((value for key, value in headers if key == name), None)


def request_id(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Returns the client's X-Request-Id if it is a plain one, else a fresh one of 32 hex digits."""
    given = header_value(headers, b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given) is not None:
        return given
    return secrets.token_hex(16).encode()


def bearer_secret(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """Returns the secret of ``Authorization: Bearer <secret>``, or None."""
    scheme, _, secret = (header_value(headers, b"authorization") or b"").partition(b" ")
    if scheme.lower() != b"bearer":
        return None
    return secret.strip().decode("latin-1") or None


def forwarded_request_headers(
    headers: RawHeaders, *, client: str, scheme: str, request_id: bytes, traceparent: str | None = None
) -> list[tuple[str, str]]:
    """Returns a request's end-to-end fields with X-Forwarded-* and X-Request-Id of our own, and with our own trace context where there
    is one. Host is kept."""
    dropped = _HOP_BY_HOP | _OURS | _named_by_connection(headers)
    if traceparent is not None:
        dropped |= _TRACE_CONTEXT
    if header_value(headers, b"transfer-encoding") is not None:
        # Both lengths at once: the chunks are what was read, so the number would be a lie.
        dropped |= {b"content-length"}
    kept = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers if name not in dropped]
    host = header_value(headers, b"host") or b""
    return [
        *kept,
        ("x-forwarded-for", client),
        ("x-forwarded-proto", scheme),
        ("x-forwarded-host", host.decode("latin-1")),
        ("x-request-id", request_id.decode("latin-1")),
        *([] if traceparent is None else [(TRACEPARENT_HEADER, traceparent)]),
    ]


def forwarded_response_headers(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """Returns an answer's end-to-end fields, without those that this server writes itself."""
    lowered = [(name.lower(), value) for name, value in headers]
    dropped = _HOP_BY_HOP | _SERVER_ADDS | _named_by_connection(lowered)
    return [(name, value) for name, value in lowered if name not in dropped]


def _named_by_connection(headers: RawHeaders) -> frozenset[bytes]:
    names = (value.split(b",") for name, value in headers if name == b"connection")
    return frozenset(name.strip().lower() for group in names for name in group)
