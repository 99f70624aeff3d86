"""The hash of an audit entry: the same bytes wherever it is computed, and from whatever the database made of the data."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.audit import GENESIS_HASH, AuditEntry, canonical_json, entry_hash, find_break, moment_text
from quantry_core.keys import Role

MOMENT = datetime(2026, 11, 23, 12, 0, 0, 5, tzinfo=UTC)


def entry(seq: int = 1, previous_hash: str = GENESIS_HASH, **changes: Any) -> AuditEntry:
    fields: dict[str, Any] = {
        "id": f"aud_{seq}",
        "project_id": "prj_1",
        "seq": seq,
        "key_id": "key_1",
        "role": Role.ADMIN,
        "action": "thing.touch",
        "noun": "thing",
        "noun_id": "thing-1",
        "data": {"share": 0.25, "name": "Zebr\u00e4", "n": 3},
        "created_at": MOMENT,
        "previous_hash": previous_hash,
        "hash": "",
        **changes,
    }
    made = AuditEntry.model_validate(fields)
    return made.model_copy(update={"hash": entry_hash(made)})


def chain(length: int) -> list[AuditEntry]:
    entries: list[AuditEntry] = []
    for seq in range(1, length + 1):
        entries.append(entry(seq, entries[-1].hash if entries else GENESIS_HASH))
    return entries


def test_the_bytes_are_these() -> None:
    """Written out by hand: an outsider computes it so."""
    text = (
        '{"action":"thing.touch","created_at":"2026-11-23T12:00:00.000005Z","data":{"n":3,"name":"Zebr\\u00e4","share":0.25},"format":1,'
        '"id":"aud_1","key_id":"key_1","noun":"thing","noun_id":"thing-1","previous_hash":"' + "0" * 64 + '","project_id":"prj_1",'
        '"role":"admin","seq":1}'
    )
    assert entry().hash == hashlib.sha256(text.encode("ascii")).hexdigest()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (-0.0, "0"),
        (1e22, "10000000000000000000000"),
        (1e-07, "1e-07"),
        (0.1, "0.1"),
        (True, "true"),
        (None, "null"),
        ({"b": 1, "a": [1.0, "ä"]}, '{"a":[1,"\\u00e4"],"b":1}'),
        ((1, 2), "[1,2]"),
    ],
)
def test_each_value_is_written_in_one_way(value: object, text: str) -> None:
    assert canonical_json(value) == text.encode()


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8")),
        lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(st.characters(codec="utf-8")), values, max_size=4),
        max_leaves=12,
    )
)
def test_what_was_written_and_read_again_is_written_the_same(value: object) -> None:
    assert canonical_json(json.loads(canonical_json(value))) == canonical_json(value)


def test_a_moment_is_one_text_in_every_zone() -> None:
    assert moment_text(MOMENT.astimezone(timezone(timedelta(hours=9)))) == moment_text(MOMENT) == "2026-11-23T12:00:00.000005Z"


def test_a_chain_breaks_where_it_was_changed() -> None:
    entries = chain(5)
    assert find_break(entries, after_seq=0, after_hash=GENESIS_HASH) is None
    assert find_break(entries[2:], after_seq=2, after_hash=entries[1].hash) is None
    changed = [*entries[:2], entries[2].model_copy(update={"noun_id": "thing-9"}), *entries[3:]]
    missing = [*entries[:2], *entries[3:]]
    swapped = [*entries[:2], entries[3].model_copy(update={"seq": 3}), entries[2].model_copy(update={"seq": 4}), entries[4]]
    rewritten = [*entries[:2], entry(3, entries[1].hash, noun_id="thing-9"), *entries[3:]]
    for tampered, seq in ((changed, 3), (missing, 3), (swapped, 3), (rewritten, 4)):
        broken = find_break(tampered, after_seq=0, after_hash=GENESIS_HASH)
        assert broken is not None
        assert broken.seq == seq
