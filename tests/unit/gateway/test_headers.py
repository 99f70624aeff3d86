"""Which header fields pass through a proxy."""

from __future__ import annotations

import re

import pytest

from quantry_gateway.headers import bearer_secret, forwarded_request_headers, forwarded_response_headers, request_id


def forwarded(*headers: tuple[bytes, bytes]) -> dict[str, str]:
    return dict(forwarded_request_headers(list(headers), client="10.0.0.9", scheme="https", request_id=b"r-1"))


def test_a_request_keeps_its_end_to_end_fields() -> None:
    passed = forwarded((b"host", b"quantry.example"), (b"authorization", b"Bearer k"), (b"range", b"bytes=1-"), (b"last-event-id", b"7"))
    assert passed == {
        "host": "quantry.example",
        "authorization": "Bearer k",
        "range": "bytes=1-",
        "last-event-id": "7",
        "x-forwarded-for": "10.0.0.9",
        "x-forwarded-proto": "https",
        "x-forwarded-host": "quantry.example",
        "x-request-id": "r-1",
    }


@pytest.mark.parametrize(
    "name",
    ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "proxy-authorization", "proxy-connection", "expect"],
)
def test_hop_by_hop_fields_end_here(name: str) -> None:
    assert name not in forwarded((name.encode(), b"x"))
    assert forwarded_response_headers([(name.title().encode(), b"x"), (b"ETag", b"1")]) == [(b"etag", b"1")]


def test_fields_named_by_connection_end_here() -> None:
    passed = forwarded((b"connection", b"close, X-Secret"), (b"x-secret", b"1"), (b"x-other", b"2"))
    assert "x-secret" not in passed
    assert passed["x-other"] == "2"


def test_what_a_client_claims_about_itself_is_not_believed() -> None:
    passed = forwarded((b"x-forwarded-for", b"6.6.6.6"), (b"forwarded", b"for=6.6.6.6"), (b"x-request-id", b"other"))
    assert passed["x-forwarded-for"] == "10.0.0.9"
    assert "forwarded" not in passed
    assert passed["x-request-id"] == "r-1"


def test_two_lengths_become_one() -> None:
    assert forwarded((b"content-length", b"5"))["content-length"] == "5"
    assert "content-length" not in forwarded((b"content-length", b"5"), (b"transfer-encoding", b"chunked"))


def test_repeated_answer_fields_stay_repeated_and_the_servers_own_are_left_out() -> None:
    headers = [(b"Set-Cookie", b"a=1"), (b"Set-Cookie", b"b=2"), (b"Date", b"x"), (b"Server", b"y"), (b"Content-Length", b"3")]
    assert forwarded_response_headers(headers) == [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"content-length", b"3")]


@pytest.mark.parametrize(
    ("value", "secret"),
    [
        (b"Bearer abc", "abc"),
        (b"bearer  abc ", "abc"),
        (b"Bearer", None),
        (b"Bearer ", None),
        (b"Basic abc", None),
        (b"abc", None),
        (b"", None),
    ],
)
def test_the_secret_of_a_bearer(value: bytes, secret: str | None) -> None:
    assert bearer_secret([(b"authorization", value)]) == secret


def test_no_header_has_no_secret() -> None:
    assert bearer_secret([(b"host", b"x")]) is None


def test_a_plain_request_id_is_kept_and_any_other_replaced() -> None:
    assert request_id([(b"x-request-id", b"build-7_a.b")]) == b"build-7_a.b"
    for bad in (b"", b"two words", b"a" * 129, b"x\r\ny", b"<script>"):
        made = request_id([(b"x-request-id", bad)])
        assert re.fullmatch(rb"[0-9a-f]{32}", made)
    assert request_id([]) != request_id([])
