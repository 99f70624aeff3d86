"""What a body is: declared, or told by its name and first line."""

from __future__ import annotations

import pytest

from quantry_core.datasets import MIN_CHARACTERS, DatasetKind
from quantry_core.errors import InvalidInput
from quantry_registry.datasets.intake import Intake

ROWS = b'{"text": "' + b"word " * 20 + b'"}\n'
PROSE = b"some words of prose " * 10


def taken(data: bytes, name: str = "words", kind: DatasetKind | None = None, content_type: str | None = None) -> DatasetKind:
    intake = Intake(name, kind, content_type)
    for at in range(0, len(data), 16):
        intake.feed(data[at : at + 16])
    return intake.finish()[0]


@pytest.mark.parametrize(
    ("data", "name", "kind", "content_type", "expected"),
    [
        (ROWS, "words", None, None, DatasetKind.ROWS),
        (ROWS, "words", None, "application/octet-stream", DatasetKind.ROWS),
        (ROWS.rstrip(), "words", None, None, DatasetKind.ROWS),
        (ROWS, "words", None, "text/plain; charset=utf-8", DatasetKind.TEXT),
        (ROWS, "words", DatasetKind.TEXT, "application/jsonl", DatasetKind.TEXT),
        (ROWS, "words.jsonl", None, "Application/X-NDJSON", DatasetKind.ROWS),
        (ROWS, "words.jsonl", None, "text/plain", DatasetKind.TEXT),
        (PROSE, "words", None, None, DatasetKind.TEXT),
        (b'{"no": "row"}\n' + PROSE, "words", None, None, DatasetKind.TEXT),
        (b"\n" + ROWS, "words", None, None, DatasetKind.TEXT),
    ],
)
def test_the_first_that_says_so_decides(
    data: bytes, name: str, kind: DatasetKind | None, content_type: str | None, expected: DatasetKind
) -> None:
    assert taken(data, name, kind, content_type) is expected


@pytest.mark.parametrize(("name", "content_type"), [("words.jsonl", None), ("words", "application/jsonl")])
def test_what_is_declared_as_rows_is_refused_if_it_is_none(name: str, content_type: str | None) -> None:
    with pytest.raises(InvalidInput, match="line 1 is not JSON"):
        taken(PROSE, name, None, content_type)


def test_too_little_text_is_refused_with_the_bound() -> None:
    assert taken(b"x" * MIN_CHARACTERS) is DatasetKind.TEXT
    with pytest.raises(InvalidInput, match=r"has 63 characters of text; at least 64 are needed"):
        taken(b"x" * (MIN_CHARACTERS - 1))
    with pytest.raises(InvalidInput, match=r"has 5 characters of text"):
        taken(b'{"text": "short", "note": "' + b"x" * 100 + b'"}')
