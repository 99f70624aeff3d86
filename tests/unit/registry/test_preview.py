"""The beginning of a dataset."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from quantry_core.datasets import Dataset, DatasetKind, DatasetOrigin
from quantry_registry.datasets.preview import MAX_STRING_CHARACTERS, PREVIEW_BYTES, preview_of


def dataset(content: bytes, kind: DatasetKind) -> Dataset:
    return Dataset(
        id="dat_" + "0" * 32,
        project_id="prj_1",
        name="words",
        number=1,
        kind=kind,
        origin=DatasetOrigin.UPLOADED,
        sha256="0" * 64,
        size_bytes=len(content),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def items(content: bytes, kind: DatasetKind, limit: int = 10) -> tuple[list[object], bool]:
    preview = preview_of(dataset(content, kind), content[:PREVIEW_BYTES], limit)
    return list(preview.items), preview.has_more


def test_lines_of_text() -> None:
    assert items(b"one\r\n\ntwo\n", DatasetKind.TEXT) == (["one", "", "two"], False)
    assert items(b"one\ntwo", DatasetKind.TEXT, limit=1) == (["one"], True)


def test_rows() -> None:
    content = b'{"text": "one"}\n\n{"text": "two", "n": 2}'
    assert items(content, DatasetKind.ROWS) == ([{"text": "one"}, {"text": "two", "n": 2}], False)


def test_pairs_and_labels_are_shown_as_they_were_written() -> None:
    pair = {"input": {"messages": [{"role": "user", "content": "Why?"}]}, "preferred_output": [], "x": 1}
    assert items(json.dumps(pair).encode(), DatasetKind.PREFERENCES) == ([pair], False)
    labelled = {"prompt": "Why?", "completion": "x" * (MAX_STRING_CHARACTERS + 1), "label": False}
    [[shown], _] = items(json.dumps(labelled).encode(), DatasetKind.LABELLED)
    assert shown == labelled | {"completion": "x" * MAX_STRING_CHARACTERS + "…"}


def test_a_cut_end_is_left_out_and_long_strings_are_shortened() -> None:
    text = "é" * PREVIEW_BYTES
    (line,), has_more = items(text.encode(), DatasetKind.TEXT)
    assert (line, has_more) == ("é" * MAX_STRING_CHARACTERS + "…", True)
    row = b'{"messages": [{"role": "user", "content": "' + b"x" * 5000 + b'"}]}\n'
    (first, *_), has_more = items(row * 300, DatasetKind.CHAT, limit=100)
    assert has_more
    assert first == {"messages": [{"role": "user", "content": "x" * MAX_STRING_CHARACTERS + "…"}]}
