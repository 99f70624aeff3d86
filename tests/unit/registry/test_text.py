from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.datasets import DatasetStatistics
from quantry_core.errors import InvalidInput
from quantry_registry.datasets.text import TextCheck


def check(*pieces: bytes) -> DatasetStatistics:
    text = TextCheck()
    for piece in pieces:
        text.feed(piece)
    return text.finish()


@pytest.mark.parametrize("text", ["a", "zwei Zeilen\nüber ß\n", "日本語", "😀", "\ufeffwith a mark", "\r\n\t x"])
def test_text_is_taken(text: str) -> None:
    check(text.encode())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "the text is empty"),
        (b" \n\t\r\n", "nothing but white space"),
        (b"ab\xff", r"not UTF-8 at byte 2 \(line 1\): invalid start byte"),
        (b"one\ntwo\nth\xe9ee", r"not UTF-8 at byte 10 \(line 3\): invalid continuation byte"),
        (b"one\n\xc3", r"not UTF-8 at byte 4 \(line 2\): unexpected end of data"),
        (b"\xed\xa0\x80", r"not UTF-8 at byte 0 \(line 1\)"),
        (b"\xc0\x80", r"not UTF-8 at byte 0 \(line 1\)"),
        (b"a\nb\0c", r"a NUL at byte 3 \(line 2\)"),
        (b"a\0b\xff", r"a NUL at byte 1 \(line 1\)"),
        (b"a\xffb\0", r"not UTF-8 at byte 1 \(line 1\)"),
        (b"\xc3\0", r"not UTF-8 at byte 0 \(line 1\)"),
    ],
)
def test_what_is_no_text_is_refused_with_its_place(data: bytes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        check(data)
    with pytest.raises(InvalidInput, match=words):
        check(*(data[at : at + 1] for at in range(len(data))))


PIECES = st.binary(max_size=8) | st.sampled_from([b"\n", "é".encode(), "😀".encode(), b"\xe2\x82", b"\xac", b"\0"])


def test_every_bad_line_is_told_up_to_a_hundred_of_them() -> None:
    with pytest.raises(InvalidInput) as refused:
        check(b"good\nb\xffad\nb\0ad \xff\ngood\nend\xc3")
    assert [problem.field for problem in refused.value.errors] == ["line 2", "line 3", "line 5"]
    assert "3 problems" in refused.value.detail
    with pytest.raises(InvalidInput) as refused:
        check(b"\xff\n" * 250)
    assert [problem.field for problem in refused.value.errors] == [f"line {line}" for line in range(1, 101)]
    assert "there are 250 problems in all: 100 in errors, 150 more" in refused.value.detail


def test_what_was_counted_does_not_depend_on_how_the_bytes_are_cut() -> None:
    data = "zwölf Wörter\n\nlast".encode()
    counted = check(data)
    assert (counted.num_characters, counted.num_lines, counted.num_rows) == (18, 3, None)
    assert counted.non_ascii_share == round(2 / 18, 4)
    assert check(*(data[at : at + 1] for at in range(len(data)))) == counted
    assert check(b"one\ntwo\n").num_lines == 2


@given(pieces=st.lists(PIECES, max_size=8))
def test_it_agrees_with_python_however_the_bytes_are_cut(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    try:
        text = data.decode("utf-8")
        bad_at = data.find(0)
    except UnicodeDecodeError as error:
        text = ""
        nul_at = data.find(0, 0, error.start)
        bad_at = nul_at if nul_at >= 0 else error.start
    try:
        check(*pieces)
    except InvalidInput as refusal:
        if bad_at >= 0:
            line = 1 + data[:bad_at].count(b"\n")
            assert f"byte {bad_at} (line {line})" in refusal.detail
        else:
            assert not text.strip()
    else:
        assert bad_at < 0
        assert text.strip()
