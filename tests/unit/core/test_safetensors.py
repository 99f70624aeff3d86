"""The header parser against files it must take and files it must refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from factories.checkpoints import safetensors_bytes
from quantry_core.safetensors import SafetensorsError, header_length, parse_header


def parse(content: bytes) -> dict[str, Any]:
    length = header_length(content[:8], len(content))
    return parse_header(content[8 : 8 + length], len(content))


def with_header(document: object, data: bytes = b"") -> bytes:
    text = json.dumps(document).encode()
    return len(text).to_bytes(8, "little") + text + data


def with_text(text: str) -> bytes:
    return len(text).to_bytes(8, "little") + text.encode()


def test_it_reads_what_the_safetensors_library_wrote(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": np.zeros((2, 3), np.float16), "b": np.ones(5, np.int32)}, path, metadata={"format": "pt"})
    tensors = parse(path.read_bytes())
    assert {name: (tensor.dtype, tensor.shape) for name, tensor in tensors.items()} == {"a": ("F16", (2, 3)), "b": ("I32", (5,))}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (with_header([]), "not a JSON object"),
        (with_header({"a": {"dtype": "F16", "shape": [2]}}), "not described by"),
        (with_header({"a": {"dtype": "F17", "shape": [1], "data_offsets": [0, 2]}}, b"xx"), "unknown dtype"),
        (with_header({"a": {"dtype": "F16", "shape": [-1], "data_offsets": [0, 2]}}, b"xx"), "natural numbers"),
        (with_header({"a": {"dtype": "F16", "shape": [True], "data_offsets": [0, 2]}}, b"xx"), "natural numbers"),
        (with_header({"a": {"dtype": "F16", "shape": 2, "data_offsets": [0, 2]}}, b"xx"), "no list as its shape"),
        (with_header({"a": {"dtype": "F16", "shape": [2], "data_offsets": [0]}}, b"xx"), "no two offsets"),
        (with_header({"a": {"dtype": "F16", "shape": [1] * 17, "data_offsets": [0, 2]}}, b"xx"), "has 17 dimensions"),
        (with_header({"a": {"dtype": "F16", "shape": [2**63, 0], "data_offsets": [0, 0]}}), r"below 2\*\*63"),
        (with_header({"a": {"dtype": "U8", "shape": [0], "data_offsets": [2**63, 2**63]}}), r"below 2\*\*63"),
        (with_header({"a": {"dtype": "U8", "shape": [10**20], "data_offsets": [0, 0]}}), "number of 21 characters"),
        (with_text('{"a": {"dtype": "U8", "shape": [%s], "data_offsets": [0, 0]}}' % ("9" * 5000)), "number of 5000 characters"),
        (with_text("[" * 100_000), "not JSON"),
        (with_header({"a": {"dtype": "F16", "shape": [2], "data_offsets": [0, 2]}}, b"xx"), "needs 4 bytes"),
        (with_header({"a": {"dtype": "U8", "shape": [2], "data_offsets": [1, 3]}}, b"xxx"), "overlap or hole"),
        (with_header({"a": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]}}, b"xxx"), "file holds 3"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00\xff\xfe", "not JSON"),
        (b"\x1f\x00\x00\x00\x00\x00\x00\x00" + b'{"a": {"dtype": 1}, "a": true} ', "twice"),
    ],
)
def test_a_lying_header_is_refused(content: bytes, words: str) -> None:
    with pytest.raises(SafetensorsError, match=words):
        parse(content)


def test_large_numbers_cannot_keep_it_busy() -> None:
    """Python multiplies these for half a minute, and lets no other thread run."""
    shape = ",".join(["9" * 4000] * 850)
    content = with_text(f'{{"a": {{"dtype": "U8", "shape": [{shape}], "data_offsets": [0, 1]}}}}')
    with pytest.raises(SafetensorsError, match="number of 4000 characters"):
        parse(content)


def test_a_refusal_does_not_quote_megabytes() -> None:
    entry = {"dtype": "x" * 1_000_000, "shape": [], "data_offsets": [0, 0]}
    with pytest.raises(SafetensorsError) as refusal:
        parse(with_header({"y" * 1_000_000: entry}))
    assert len(str(refusal.value)) < 1000


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_raise_anything_else(content: bytes) -> None:
    try:
        parse(content)
    except SafetensorsError as error:
        assert str(error)


@given(st.data())
def test_any_cut_of_a_good_file_is_refused(data: st.DataObject) -> None:
    content = safetensors_bytes({"a": ("F16", (4, 4)), "b": ("F32", (3,))})
    cut = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(SafetensorsError):
        parse(content[:cut])
