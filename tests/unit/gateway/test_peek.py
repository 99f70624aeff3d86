"""Fields read without parsing all of a body are those that parsing it finds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_gateway import peek
from quantry_gateway.peek import Fields

NAMES = ("model", "stream", "user")
TEXTS = st.text() | st.sampled_from(['"model"', '\\"model\\"', '"model":"x"', "model", "é", "\\", '\\"', '{"model":1}', "\ud800"])
KEYS = st.sampled_from([*NAMES, "messages", "mo\\u0064el", "\\u0073tream", "mod\\u0065l", 'a\\"model', "\\\\", "é", "x_y"])
SCALARS = st.none() | st.booleans() | st.integers() | TEXTS
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*NAMES, "role"]) | TEXTS, inner, max_size=3)
)


def spelt(pairs: list[tuple[str, Any]], *, ascii_only: bool, blanks: str) -> bytes:
    """Returns an object whose keys stand as they are written, doubled ones and escapes included."""
    fields = [f'"{key}"{blanks}:{blanks}{json.dumps(value, ensure_ascii=ascii_only)}' for key, value in pairs]
    return (blanks + "{" + blanks + f"{blanks},{blanks}".join(fields) + blanks + "}" + blanks).encode("utf-8", "surrogatepass")


@given(pairs=st.lists(st.tuples(KEYS, VALUES), max_size=8), ascii_only=st.booleans(), blanks=st.sampled_from(["", " ", "\n\t", "\r\n "]))
def test_every_field_is_the_one_that_json_finds(pairs: list[tuple[str, Any]], ascii_only: bool, blanks: str) -> None:
    body = spelt(pairs, ascii_only=ascii_only, blanks=blanks)
    document = json.loads(body)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peek, "WHOLE_BYTES", -1)
        fields = Fields(body)
        assert {name: fields.get(name) for name in NAMES} == {name: document.get(name) for name in NAMES}


PADDING = "x" * peek.WHOLE_BYTES


@pytest.mark.parametrize(
    "body",
    [
        {"model": "bard", "prompt": PADDING},
        {"prompt": PADDING, "model": "bard", "stream": True},
        {"messages": [{"role": "user", "content": PADDING}], "model": "bard", "user": "ann"},
        {"model": "bard", "prompt": [1, 2, 3] * 2000, "stream": False},
        {"model": "bard", "messages": [{"role": "user", "content": 'say "no" \\ ' + PADDING}]},
        {"model": "bard", "prompt": PADDING + "café"},
        {"prompt": PADDING},
    ],
)
def test_large_plain_bodies_are_not_parsed(body: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    spelt_out = json.dumps(body).encode()
    num_loaded_bytes = []
    really = json.loads

    def loads(data: bytes) -> Any:
        num_loaded_bytes.append(len(data))
        return really(data)

    monkeypatch.setattr(json, "loads", loads)
    fields = Fields(spelt_out)
    assert [fields.get(name) for name in NAMES] == [body.get(name) for name in NAMES]
    assert sum(num_loaded_bytes) < 200


@pytest.mark.parametrize(
    "body", [b"", b"model=bard", b'["bard"]', b"\xff\xfe\xff", b"[" * 100_000, b'{"model": "bard"', b'{"model": bard}']
)
def test_what_is_no_object_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises((ValueError, RecursionError)):
        Fields(body).get("model")


def test_other_encodings_are_read_as_json_reads_them() -> None:
    for encoding in ("utf-8-sig", "utf-16", "utf-16-le", "utf-32"):
        body = json.dumps({"model": "bard", "prompt": PADDING}).encode(encoding)
        assert Fields(body).get("model") == "bard"


def test_a_value_that_is_not_plain_is_parsed() -> None:
    body = b'{"prompt":"' + PADDING.encode() + b'","user":7,"model":"b\\u0061rd"}'
    fields = Fields(body)
    assert (fields.get("model"), fields.get("user")) == ("bard", 7)
