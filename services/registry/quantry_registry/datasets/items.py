"""A dataset as the items that derivation works on: rows as they stand, or passages of plain text."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from quantry_core.datasets import DatasetKind
from quantry_core.rows import parse_row


@dataclass(frozen=True)
class Item:
    """One row, or one passage of plain text."""

    raw: bytes
    """As it is written, with the newline at its end."""
    num_characters: int
    identity: bytes
    """Equal for items that say the same."""


def items_of(kind: DatasetKind, chunks: Iterable[bytes], passage_characters: int) -> Iterator[Item]:
    """Yields the items of a dataset in their order, however its bytes are cut into chunks. Holds one item and one chunk.

    A passage is whole lines, until they have ``passage_characters``; where no line ends before twice that, it is cut there.
    """
    if kind is DatasetKind.TEXT:
        for passage in _passages(chunks, passage_characters):
            raw = passage.encode()
            yield Item(raw=raw, num_characters=len(passage), identity=raw)
        return
    for line in _lines(chunks):
        row = parse_row(kind, line.decode())
        yield Item(raw=line + b"\n", num_characters=row.num_characters, identity=row.identity)


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yields lines without white space around them; those of nothing else are left out."""
    pending = bytearray()
    for chunk in chunks:
        *ended, last = chunk.split(b"\n")
        for part in ended:
            pending += part
            if line := bytes(pending).strip():
                yield line
            pending.clear()
        pending += last
    if line := bytes(pending).strip():
        yield line


def _passages(chunks: Iterable[bytes], passage_characters: int) -> Iterator[str]:
    """Yields passages, each with a newline at its end; those of white space alone are left out."""
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    pending = ""
    for chunk in chunks:
        pending += decoder.decode(chunk)
        start = 0
        while (end := _passage_end(pending, start, passage_characters)) is not None:
            yield from _as_passage(pending[start:end])
            start = end
        pending = pending[start:]
    yield from _as_passage(pending + decoder.decode(b"", final=True))


def _passage_end(text: str, start: int, passage_characters: int) -> int | None:
    """Returns where the passage from ``start`` ends; None if that cannot be told yet."""
    longest = start + 2 * passage_characters
    newline_at = text.find("\n", start + passage_characters - 1, longest)
    if newline_at >= 0:
        return newline_at + 1
    return longest if len(text) >= longest else None


def _as_passage(text: str) -> Iterator[str]:
    if text.strip():
        yield text if text.endswith("\n") else text + "\n"
