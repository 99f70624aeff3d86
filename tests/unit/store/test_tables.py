"""What every table has, and what its columns can hold."""

from __future__ import annotations

import json
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_store.tables import Base
from quantry_store.tables.base import ENUM_LENGTH_CHARS, ENUMS, storable_json, storable_text

WITHOUT_PROJECT = {"projects", "blobs", "route_revision"}
"""The tenants themselves, bytes that are kept once for all, and one number."""


def test_every_row_belongs_to_a_project() -> None:
    without = {table.name for table in Base.metadata.tables.values() if "project_id" not in table.columns}
    assert without == WITHOUT_PROJECT
    assert not any(table.columns["project_id"].nullable for table in Base.metadata.tables.values() if table.name not in without)


def test_enum_values_fit_their_columns() -> None:
    assert max(len(member) for values in ENUMS for member in values) <= ENUM_LENGTH_CHARS


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [("plain ü 字", "plain ü 字"), ("a\x00b", "a\N{REPLACEMENT CHARACTER}b"), ("\ud800", "?"), ("", "")],
)
def test_storable_text(given_text: str, kept: str) -> None:
    assert storable_text(given_text) == kept


@given(st.text(st.characters()))
def test_all_text_becomes_storable_once(text: str) -> None:
    kept = storable_text(text)
    kept.encode("utf-8")
    assert "\x00" not in kept
    assert storable_text(kept) == kept


def test_storable_json() -> None:
    value = {"a": nan, "b": [inf, -inf, 1.5, True, None, 7], "c\x00": {"d": "e\x00"}, "f": (1, 2)}
    kept = storable_json(value)
    assert kept == {"a": None, "b": [None, None, 1.5, True, None, 7], "c\ufffd": {"d": "e\ufffd"}, "f": [1, 2]}
    json.dumps(kept, allow_nan=False)
