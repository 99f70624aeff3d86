"""The GGUF header: what is read of a well-formed file, and what is refused however a file lies."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core import gguf
from quantry_core.gguf import GgufArray, GgufError, GgufInfo, read_gguf

STRING, ARRAY, U32, BOOL, F32_VALUE = 8, 9, 4, 7, 6


@dataclass
class Memory:
    """A file in memory that counts what is read of it."""

    contents: bytes
    listed_bytes: int | None = None

    def files(self) -> Mapping[str, int]:
        return {"model.gguf": len(self.contents) if self.listed_bytes is None else self.listed_bytes}

    def read(self, path: str, start: int, length: int) -> bytes:
        return self.contents[start : start + length]


@dataclass
class Draft:
    """A GGUF file to be, every part of which a test may spoil."""

    magic: bytes = b"GGUF"
    version: int = 3
    key_values: list[bytes] = field(default_factory=list)
    tensors: list[bytes] = field(default_factory=list)
    num_tensors: int | None = None
    num_key_values: int | None = None
    alignment: int = 32
    data: bytes = b""

    def contents(self) -> bytes:
        counts = struct.pack(
            "<QQ",
            len(self.tensors) if self.num_tensors is None else self.num_tensors,
            len(self.key_values) if self.num_key_values is None else self.num_key_values,
        )
        header = self.magic + struct.pack("<I", self.version) + counts + b"".join(self.key_values) + b"".join(self.tensors)
        return header + b"\0" * (-len(header) % self.alignment) + self.data

    def read(self) -> GgufInfo:
        return read_gguf(Memory(self.contents()), "model.gguf")


def string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def key_value(key: str, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def array(kind: int, num_elements: int, elements: bytes) -> bytes:
    return struct.pack("<IQ", kind, num_elements) + elements


def tensor(name: str, dimensions: list[int], kind: int, offset: int) -> bytes:
    head = string(name) + struct.pack("<I", len(dimensions))
    return head + b"".join(struct.pack("<Q", one) for one in dimensions) + struct.pack("<IQ", kind, offset)


def well_formed() -> Draft:
    """Two tensors: 2 x 32 of Q8_0, 68 bytes, and three F32 numbers from byte 96 on."""
    return Draft(
        key_values=[
            key_value("general.architecture", STRING, string("llama")),
            key_value("llama.block_count", U32, struct.pack("<I", 6)),
            key_value("a.flag", BOOL, b"\1"),
            key_value("tokens", ARRAY, array(STRING, 2, string("a") + string("bc"))),
            key_value("pairs", ARRAY, array(ARRAY, 1, array(U32, 2, bytes(8)))),
        ],
        tensors=[tensor("w", [32, 2], 8, 0), tensor("n", [3], 0, 96)],
        data=bytes(128),
    )


def test_key_values_and_tensors_are_read_with_shapes_as_numpy_has_them() -> None:
    draft = well_formed()
    begin = len(draft.contents()) - 128
    info = draft.read()
    assert info.version == 3
    assert info.key_values == {
        "general.architecture": "llama",
        "llama.block_count": 6,
        "a.flag": True,
        "tokens": GgufArray(num_elements=2),
        "pairs": GgufArray(num_elements=1),
    }
    assert {name: (one.type_name, one.shape, one.begin - begin, one.end - begin) for name, one in info.tensors.items()} == {
        "w": ("Q8_0", (2, 32), 0, 68),
        "n": ("F32", (3,), 96, 108),
    }
    assert info.num_by_type() == {"F32": 1, "Q8_0": 1}


def test_a_file_says_its_own_alignment() -> None:
    draft = Draft(key_values=[key_value("general.alignment", U32, struct.pack("<I", 64))], alignment=64)
    draft.tensors, draft.data = [tensor("a", [1], 0, 0), tensor("b", [1], 0, 64)], bytes(128)
    assert draft.read().tensors["b"].begin % 64 == 0


@pytest.mark.parametrize("size", range(1, 320, 7))
def test_a_file_cut_short_anywhere_is_refused(size: int) -> None:
    contents = well_formed().contents()
    with pytest.raises(GgufError):
        read_gguf(Memory(contents[:size]), "model.gguf")


def test_a_file_shorter_than_listed_is_refused() -> None:
    with pytest.raises(GgufError, match="shorter than it is listed"):
        read_gguf(Memory(well_formed().contents()[:60], listed_bytes=10_000), "model.gguf")


def _spoilt(**changes: object) -> Draft:
    draft = well_formed()
    for name, value in changes.items():
        setattr(draft, name, value)
    return draft


@pytest.mark.parametrize(
    ("draft", "words"),
    [
        (_spoilt(magic=b"GGML"), "does not begin with GGUF"),
        (_spoilt(version=1), "version 1 is not known"),
        (_spoilt(version=0x03000000), "version 50331648 is not known"),
        (_spoilt(num_tensors=2**63), "tensors, more than"),
        (_spoilt(num_key_values=2**40), "key-values, more than"),
        (_spoilt(key_values=[key_value("k", 13, b"")]), "value type 13"),
        (_spoilt(key_values=[key_value("k", ARRAY, array(13, 1, b""))]), "value type 13"),
        (_spoilt(key_values=[key_value("k", ARRAY, array(U32, 2**62, b""))]), "elements of an array, more than"),
        (_spoilt(key_values=[key_value("k", ARRAY, array(ARRAY, 1, array(ARRAY, 1, array(ARRAY, 1, array(U32, 0, b"")))))]), "deep"),
        (_spoilt(key_values=[key_value("k", STRING, struct.pack("<Q", 2**60))]), "bytes of a string, more than"),
        (_spoilt(key_values=[key_value("k", STRING, struct.pack("<Q", 2) + b"\xff\xfe")]), "not UTF-8"),
        (_spoilt(key_values=[key_value("k", U32, bytes(4))] * 2), "key 'k' is there twice"),
        (_spoilt(key_values=[key_value("general.alignment", U32, struct.pack("<I", 0))]), "general.alignment is 0"),
        (_spoilt(key_values=[key_value("general.alignment", U32, struct.pack("<I", 12))]), "general.alignment is 12"),
        (_spoilt(key_values=[key_value("general.alignment", F32_VALUE, struct.pack("<f", 32))]), "general.alignment is 32.0"),
        (_spoilt(key_values=[key_value("general.alignment", BOOL, b"\1")]), "general.alignment is True"),
        (_spoilt(tensors=[tensor("w", [32, 2], 8, 0)] * 2), "tensor 'w' is there twice"),
        (_spoilt(tensors=[tensor("w" * 65, [32], 8, 0)]), "name, more than the 64"),
        (_spoilt(tensors=[tensor("w", [1] * 5, 0, 0)]), "5 dimensions of tensor 'w', more than the 4"),
        (_spoilt(tensors=[tensor("w", [32], 4, 0)]), "type 4, which is not known"),
        (_spoilt(tensors=[tensor("w", [33], 8, 0)]), "rows of 33 are no whole blocks of Q8_0"),
        (_spoilt(tensors=[tensor("w", [2**63, 2**63], 0, 0)]), "cut short"),
        (_spoilt(tensors=[tensor("w", [32, 2], 8, 4)]), "off the alignment"),
        (_spoilt(tensors=[tensor("w", [32, 2], 8, 0), tensor("n", [3], 0, 64)]), "tensor 'n' overlaps"),
        (_spoilt(data=bytes(256)), "goes on for"),
    ],
)
def test_what_lies_is_refused_by_name(draft: Draft, words: str) -> None:
    with pytest.raises(GgufError, match=words):
        draft.read()


def test_a_header_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf, "MAX_HEADER_BYTES", 100)
    with pytest.raises(GgufError, match="longer than the 100 bytes"):
        well_formed().read()


@given(st.integers(min_value=0, max_value=300), st.binary(min_size=1, max_size=8))
def test_bytes_overwritten_anywhere_end_in_a_header_or_a_reason(position: int, junk: bytes) -> None:
    contents = well_formed().contents()
    spoilt = contents[:position] + junk + contents[position + len(junk) :]
    try:
        info = read_gguf(Memory(spoilt), "model.gguf")
    except GgufError:
        return
    assert all(one.end <= len(spoilt) for one in info.tensors.values())
