"""A model card taken apart: headings, paragraphs, lists, tables and code, each with plain text. Pure.

What is no Markdown that is known here stays text as it stands, HTML among it: nothing of a card is ever given to the browser as markup.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from html import unescape
from typing import NamedTuple, TypeAlias

_CODE = re.compile(r"(?<!\\)(`+)(.+?)\1")
_CELL = re.compile(r"(?<!\\)\|")
_HEADING = re.compile(r"(#{1,6})\s+(.*)")
_ITEM = re.compile(r"\s*(?:[-*]|\d+\.)\s+(.*)")
_RULE = re.compile(r"\|?[\s:|-]*-[\s:|-]*\|?")


class Span(NamedTuple):
    """A piece of a line."""

    text: str
    is_code: bool = False


Line: TypeAlias = tuple[Span, ...]


class Heading(NamedTuple):
    level: int
    line: Line


class Paragraph(NamedTuple):
    line: Line


class Items(NamedTuple):
    lines: tuple[Line, ...]


class Table(NamedTuple):
    headings: tuple[Line, ...]
    rows: tuple[tuple[Line, ...], ...]


class Code(NamedTuple):
    """Of a fence, or the front matter."""

    text: str


Block: TypeAlias = Heading | Paragraph | Items | Table | Code


def blocks(card: str) -> list[Block]:
    """Returns the blocks of a card; the front matter is code."""
    lines = card.splitlines()
    found: list[Block] = []
    if lines[:1] == ["---"] and "---" in lines[1:]:
        end = lines.index("---", 1)
        found.append(Code("\n".join(lines[1:end])))
        lines = lines[end + 1 :]
    return [*found, *_blocks(lines)]


def _blocks(lines: list[str]) -> Iterator[Block]:
    place = 0
    while place < len(lines):
        line = lines[place]
        heading = _HEADING.fullmatch(line)
        if not line.strip():
            place += 1
        elif line.startswith("```"):
            end = next((at for at in range(place + 1, len(lines)) if lines[at].startswith("```")), len(lines))
            yield Code("\n".join(lines[place + 1 : end]))
            place = end + 1
        elif heading is not None:
            yield Heading(len(heading[1]), spans(heading[2]))
            place += 1
        elif line.startswith("|") and place + 1 < len(lines) and _RULE.fullmatch(lines[place + 1]):
            end = _end(lines, place, lambda one: one.startswith("|"))
            yield Table(_cells(line), tuple(_cells(row) for row in lines[place + 2 : end]))
            place = end
        elif _ITEM.fullmatch(line):
            end = _end(lines, place, lambda one: _ITEM.fullmatch(one) is not None)
            yield Items(tuple(spans(match[1]) for one in lines[place:end] if (match := _ITEM.fullmatch(one)) is not None))
            place = end
        else:
            end = _end(lines, place, lambda one: bool(one.strip()) and not one.startswith(("#", "|", "```")))
            end = max(end, place + 1)
            yield Paragraph(spans(" ".join(one.strip() for one in lines[place:end])))
            place = end


def spans(text: str) -> Line:
    """Returns a line's pieces: what stands between backticks is code."""
    found: list[Span] = []
    place = 0
    for match in _CODE.finditer(text):
        found += _plain(text[place : match.start()])
        found.append(Span(match[2].replace("\\|", "|"), is_code=True))
        place = match.end()
    return tuple([*found, *_plain(text[place:])])


def _plain(text: str) -> Iterable[Span]:
    told = unescape(re.sub(r"\\([\\`*_{}\[\]()#+.!|<>-])", r"\1", text))
    return [Span(told)] if told else []


def _cells(row: str) -> tuple[Line, ...]:
    inner = row.strip().removeprefix("|")
    inner = inner[:-1] if inner.endswith("|") and not inner.endswith("\\|") else inner
    return tuple(spans(cell.strip()) for cell in _CELL.split(inner))


def _end(lines: list[str], place: int, goes_on: Callable[[str], bool]) -> int:
    return next((at for at in range(place, len(lines)) if not goes_on(lines[at])), len(lines))
