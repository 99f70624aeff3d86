"""What names a person or opens a door is replaced; what only looks a little like it stays."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.scrubbing import ScrubKind, scrub

FOUND = [
    ("write to ada.lovelace+news@mail.example.org, please", "write to <email>, please", ScrubKind.EMAIL),
    ("(a@b.de)", "(<email>)", ScrubKind.EMAIL),
    ("pay with 4111 1111 1111 1111 now", "pay with <card> now", ScrubKind.CARD),
    ("pay with 5500-0000-0000-0004.", "pay with <card>.", ScrubKind.CARD),
    ("call +49 (30) 901820-17 today", "call <phone> today", ScrubKind.PHONE),
    ("call 555-867-5309.", "call <phone>.", ScrubKind.PHONE),
    ("call (415) 555-2671.", "call <phone>.", ScrubKind.PHONE),
    ("0049 171 1234567", "<phone>", ScrubKind.PHONE),
    ("ping 192.168.17.4.", "ping <ip>.", ScrubKind.IP),
    ("ping 2001:db8::8a2e:370:7334 or ::1", "ping <ip> or <ip>", ScrubKind.IP),
    ("key sk-proj-abcdefghij0123456789 works", "key <secret> works", ScrubKind.SECRET),
    ("qtr_3sSJbZk0uM1Zt1vQ2yq8jIhv8J9b7sAq0e5y2m4n6p8", "<secret>", ScrubKind.SECRET),
    ("AKIAIOSFODNN7EXAMPLE", "<secret>", ScrubKind.SECRET),
    ('{"password": "hunter2!"}', '{"password": "<secret>"}', ScrubKind.SECRET),
    ("api_key=abcd1234&x=1", "api_key=<secret>", ScrubKind.SECRET),
    ("POSTGRES_PASSWORD: hunter2", "POSTGRES_PASSWORD: <secret>", ScrubKind.SECRET),
    ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "AWS_SECRET_ACCESS_KEY=<secret>", ScrubKind.SECRET),
    ("SECRET_KEY = 'insecure-one'", "SECRET_KEY = '<secret>'", ScrubKind.SECRET),
    ('{"dbPassword": "hunter2!"}', '{"dbPassword": "<secret>"}', ScrubKind.SECRET),
    ("postgres://bard:hunter2@db:5432/x", "postgres://bard:<secret>@db:5432/x", ScrubKind.SECRET),
    ("redis://:hunter2@cache.example.com/0", "redis://:<secret>@cache.example.com/0", ScrubKind.SECRET),
    ("Authorization: Bearer abcdefghijklmnop", "Authorization: Bearer <secret>", ScrubKind.SECRET),
    ("curl -H 'bearer abcdefghijklmnopqrstu'", "curl -H 'bearer <secret>'", ScrubKind.SECRET),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl", "<secret>", ScrubKind.SECRET),
    ("sha d41d8cd98f00b204e9800998ecf8427e", "sha <secret>", ScrubKind.SECRET),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIEow==\n-----END RSA PRIVATE KEY-----", "<secret>", ScrubKind.SECRET),
]
LEFT = [
    "the year 2026, the 23rd of November",
    "on 2026-11-23 12:34:56",
    "version 1.2.3.4567 and 999.1.1.1",
    "number 4111111111111112 has no good check digit",
    "a b@c and @someone",
    "The quick brown fox jumps over the lazy dog.",
    "Donaudampfschifffahrtsgesellschaftskapitaen",
    "def some_long_function_name_of_python(argument: int) -> None:",
    "3.14159265358979",
    "population 8000000000",
    "at 12:30:45 o'clock",
    "what is a token, and what is a password?",
    "max_tokens=2048 and token_count: 1024",
    "the compass: north, the bypass: closed",
    "see http://localhost:8080/a@b",
]


@pytest.mark.parametrize(("text", "scrubbed", "kind"), FOUND)
def test_what_is_found_is_replaced_and_counted(text: str, scrubbed: str, kind: ScrubKind) -> None:
    found = scrub(text)
    assert found.text == scrubbed
    assert set(found.counts) == {kind}


@pytest.mark.parametrize("text", LEFT)
def test_what_is_none_stays(text: str) -> None:
    found = scrub(text)
    assert (found.text, found.counts) == (text, {})


@given(st.text())
def test_scrubbing_twice_changes_nothing_more(text: str) -> None:
    once = scrub(text).text
    assert scrub(once).text == once


@pytest.mark.parametrize(
    "unit",
    ["1", "1-", "a@", "a.", "::", "(", "aA1_", "-----BEGIN PRIVATE KEY-----", "password=", "eyJ.", "1 ", "://", "://a:", "aPassword"],
)
def test_no_text_takes_long(unit: str) -> None:
    text = unit * (65_536 // len(unit))
    began = time.perf_counter()
    scrub(text)
    assert time.perf_counter() - began < 5, "a fraction of a second, where nothing backs off"
