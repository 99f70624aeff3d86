"""Secrets do not stand in what leaves a process, whoever put them there."""

from __future__ import annotations

import json

import pytest

from quantry_telemetry.blotting import BLOT, Blotter, secrets_of


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("key qtr_abcDEF123-_456789 was refused", f"key qtr_{BLOT} was refused"),
        ("enrol with qte_abcDEF123-_456789", f"enrol with qte_{BLOT}"),
        ("its secret whsec_YWJj+/ZGVmZ2hp== is", f"its secret whsec_{BLOT} is"),
        ('{"id_token": "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ1In0.c2ln"}', f'{{"id_token": "{BLOT}"}}'),
        ("Authorization: Bearer eyJhbGciOi.J9.x-y_z", f"Authorization: Bearer {BLOT}"),
        ("authorization: basic dXNlcjpwYXNzd29yZA==", f"authorization: basic {BLOT}"),
        ("postgresql+psycopg://quantry:pa55/word@db:5432/q", "postgresql+psycopg://quantry:pa55/word@db:5432/q"),
        ("postgresql+psycopg://quantry:pa55word@db:5432/q", f"postgresql+psycopg://{BLOT}@db:5432/q"),
        ("redis://:hunter22@redis:6379/0", f"redis://{BLOT}@redis:6379/0"),
        ("the token hf_abcdefghijklmnopQRST", f"the token hf_{BLOT}"),
        ("https://quantry.example/api/v1/jobs at 10:30", "https://quantry.example/api/v1/jobs at 10:30"),
        ("a bearer of news", "a bearer of news"),
    ],
)
def test_what_looks_like_a_secret_is_blotted_out(text: str, left: str) -> None:
    assert Blotter().blot(text) == left


def test_known_values_are_blotted_out_wherever_they_stand() -> None:
    blotter = Blotter(frozenset({"correct horse battery", "correct horse", "a+b(c", "short"}))
    said = blotter.blot("'correct horse battery' 'correct horse' a+b(c short")
    # The longer one first, or its end would be left; one of less than eight characters would blot out words.
    assert said == f"'{BLOT}' '{BLOT}' a+b(c short"


def test_a_known_value_is_found_as_json_writes_it() -> None:
    secret = 'pass"word\\of-\u00fc'
    assert Blotter(frozenset({secret})).blot(json.dumps({"event": secret})) == f'{{"event": "{BLOT}"}}'


def test_the_environments_secrets_are_found_by_their_names_and_in_addresses() -> None:
    environment = {
        "QUANTRY_WORKER_TOKEN": "token-of-a-worker",
        "QUANTRY_CAPTURE_KEYS": "first-key-of-two,second-key-of-two",
        "QUANTRY_S3_SECRET_KEY": "s3-secret",
        "POSTGRES_PASSWORD": "password-one",
        "QUANTRY_DATABASE_URL": "postgresql://quantry:pass%40word@db/quantry",
        "QUANTRY_API_URL": "http://api:8001",
        "HOME": "/home/somebody",
        "BROKEN": "http://[half",
    }
    assert secrets_of(environment) == {
        "token-of-a-worker",
        "first-key-of-two,second-key-of-two",
        "first-key-of-two",
        "second-key-of-two",
        "s3-secret",
        "password-one",
        "pass%40word",
        "pass@word",
    }
