"""The audit log in words and in files: which part is asked for, and cells that no spreadsheet takes for formulas."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from quantry_core.audit import AuditBreak, AuditEntry, AuditVerification
from quantry_core.keys import Role
from quantry_dashboard.audit_view import (
    COLUMNS,
    csv_head,
    csv_rows,
    data_text,
    json_lines,
    noun_address,
    parse,
    safe_cell,
    verification_text,
    who_text,
)

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
JOB = "job_" + "0" * 32


def an_entry(**changes: Any) -> AuditEntry:
    fields: dict[str, Any] = {
        "id": "aud_1",
        "project_id": "prj_1",
        "seq": 1,
        "key_id": "key_0123456789abcdef",
        "role": Role.ADMIN,
        "action": "job.submit",
        "noun": "job",
        "noun_id": JOB,
        "data": {"name": "x"},
        "created_at": NOW,
        "previous_hash": "0" * 64,
        "hash": "1" * 64,
    }
    return AuditEntry.model_validate(fields | changes)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", " =", " ", "\u00a0="])
def test_no_cell_begins_as_a_formula_does(start: str) -> None:
    hostile = f'{start}cmd|"/C calc"!A0'
    assert safe_cell(hostile).startswith("'")
    entry = an_entry(noun_id=hostile, action=hostile, data={hostile: hostile})
    (row,) = csv.DictReader(io.StringIO(csv_head().removeprefix("\ufeff") + "".join(csv_rows([entry])), newline=""))
    assert list(row) == list(COLUMNS)
    assert row["noun_id"] == f"'{hostile}"
    # What a cell holds beside its first character is kept to the letter.
    assert json.loads(row["data"]) == {hostile: hostile}


@pytest.mark.parametrize("hidden", ["\u202e", "\u2066", "\u200b", "\ufeff", "\x00", "\x1b", "\u2028", "\U000e0041", "\x7f"])
def test_what_cannot_be_seen_is_spelled_out_and_hides_no_formula(hidden: str) -> None:
    name = f"{hidden}=1+1,fdp.{hidden}exe"
    assert hidden not in safe_cell(name)
    assert safe_cell(name).startswith("\\u")
    entry = an_entry(noun_id=name, data={name: name})
    (row,) = csv.DictReader(io.StringIO(csv_head().removeprefix("\ufeff") + "".join(csv_rows([entry])), newline=""))
    assert json.loads(row["data"]) == {name: name}
    (line,) = json_lines([entry], is_first=True)
    assert hidden not in line
    assert AuditEntry.model_validate(json.loads(line)) == entry


def test_a_harmless_cell_is_as_it_is() -> None:
    for text in ("", "job.submit", "2026-11-23T12:00:00+00:00", '{"a": -1}', 'a,b\n"c"', "Zoë, 東京 🙂"):
        assert safe_cell(text) == text


def test_json_is_an_array_of_entries() -> None:
    entries = [an_entry(seq=seq, data={"note": "=1+1\n</script>"}) for seq in (2, 1)]
    text = "[\n" + "".join(json_lines(entries[:1], is_first=True)) + "".join(json_lines(entries[1:], is_first=False)) + "\n]\n"
    assert [AuditEntry.model_validate(one) for one in json.loads(text)] == entries


def test_an_address_asks_for_a_part_and_says_what_it_cannot() -> None:
    view, problems = parse({"noun": " job ", "since": "2026-11-23T12:00", "until": "soon", "key_id": "k" * 201, "after": "aud_1", "x": "y"})
    assert (view.which.noun, view.which.since, view.which.until, view.which.key_id, view.after) == ("job", NOW, None, None, "aud_1")
    assert len(problems) == 2
    assert view.url() == "/admin/audit?noun=job&since=2026-11-23T12%3A00&after=aud_1"
    # Another filter begins with the first page, and a file has no pages.
    assert view.url(noun="") == "/admin/audit?since=2026-11-23T12%3A00"
    assert view.url("/admin/audit/export.csv") == "/admin/audit/export.csv?noun=job&since=2026-11-23T12%3A00"
    assert parse({}) == (parse({})[0], []) and not parse({})[0].is_narrowed


def test_entries_in_words() -> None:
    assert who_text(an_entry(key_id=None, role=None)) == "the platform"
    assert who_text(an_entry()) == "key_…89abcdef (admin)"
    assert noun_address(an_entry()) == f"/jobs/{JOB}"
    assert noun_address(an_entry(noun_id="../admin")) is None
    assert noun_address(an_entry(noun="key")) is None
    rollout = f"rol_{JOB.removeprefix('job_')}"
    assert noun_address(an_entry(noun="rollout", noun_id=rollout)) == f"/rollouts/{rollout}"
    assert data_text({"name": "x", "limits": {"a": 1}, "old": None}) == 'name=x, limits={"a":1}, old=null'


def test_what_a_verification_found() -> None:
    found = {"project_id": "prj_1", "is_whole": True, "num_entries": 1200, "first_seq": 1, "last_seq": 1200, "last_hash": "0" * 64}
    assert "1,200 entries, 1 to 1,200" in verification_text(AuditVerification.model_validate(found))
    broken = AuditBreak(seq=7, why="the entry is missing")
    said = verification_text(AuditVerification.model_validate({**found, "is_whole": False, "broken_at": broken}))
    assert "breaks at entry 7: the entry is missing" in said
    assert "no entry" in verification_text(AuditVerification.model_validate({**found, "num_entries": 0, "first_seq": None}))
