"""What commands print: tables and sentences for people on stdout, JSON for programs, troubles on stderr."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import TypeVar

import typer
from pydantic import BaseModel
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from quantry_core.jobs import JobStatus
from quantry_core.pages import Page

T = TypeVar("T")

_PIPE_WIDTH = 250
"""Columns where no terminal sets them: wide enough that no id is cut."""

_GAP = 2
_SENTENCE_WIDTH = 20
"""Where there is little room, a cell of several words is broken into lines of so many columns."""

_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What makes a terminal do something else than show text; tab and newline are none of it."""

STATUS_STYLES = {
    JobStatus.WAITING: "dim",
    JobStatus.QUEUED: "yellow",
    JobStatus.RUNNING: "cyan",
    JobStatus.SUCCEEDED: "green",
    JobStatus.FAILED: "red",
    JobStatus.CANCELLED: "magenta",
}


class PlainConsole(Console):
    """Shows what it is given as text: no markup, and nothing that a name, a note or a log could have a terminal do."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False, width: int | None = None) -> None:
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, width=width, markup=False, highlight=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yields the pieces of something, of text only what can be seen."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(shown(segment.text), segment.style)


def shown(text: str) -> str:
    """Returns what can be seen of a text: without the characters that a terminal takes for commands."""
    return _CONTROLS.sub("", text)


def stdout() -> Console:
    """Returns a console on standard output."""
    console = PlainConsole()
    return console if console.is_terminal else PlainConsole(width=_PIPE_WIDTH)


def stderr() -> Console:
    """Returns a console on standard error."""
    return PlainConsole(stderr=True, soft_wrap=True)


def say(text: str) -> None:
    """Prints one line without breaking it."""
    stdout().print(text, soft_wrap=True)


def emit_json(value: BaseModel | Sequence[BaseModel] | dict[str, object]) -> None:
    """Prints a value as indented JSON; several of them as lists are answered, below ``data``."""
    if isinstance(value, BaseModel):
        document: object = value.model_dump(mode="json")
    elif isinstance(value, dict):
        document = value
    else:
        document = {"data": [item.model_dump(mode="json") for item in value]}
    typer.echo(_escaped(json.dumps(document, indent=2, ensure_ascii=False)))


def emit_json_line(value: BaseModel) -> None:
    """Prints a value as JSON on one line: one of many that come as things happen."""
    typer.echo(_escaped(value.model_dump_json()))


def emit_text(text: str) -> None:
    """Prints a text of several lines: all of it into a file or a pipe, what can be seen of it on a terminal."""
    whole = shown(text) if stdout().is_terminal else text
    typer.echo(whole, nl=not whole.endswith("\n"))


def _escaped(document: str) -> str:
    """Returns JSON with those control characters escaped too that JSON would let stand."""
    return re.sub("[\x7f-\x9f]", lambda match: f"\\u{ord(match.group()):04x}", document)


Column = tuple[str, Callable[[T], str | Text]]
"""A heading, and what stands below it for an item."""


def print_table(items: Sequence[T], columns: Sequence[Column[T]], *, empty: str) -> None:
    """Prints one row per item, or the sentence ``empty``."""
    if not items:
        say(empty)
        return
    console = stdout()
    if least_width(items, columns) <= console.width:
        console.print(table_of(items, columns))
        return
    for number, item in enumerate(items):
        if number:
            console.print()
        console.print(_block(item, columns))


def least_width(items: Sequence[T], columns: Sequence[Column[T]]) -> int:
    """Returns the columns of a terminal that a table of these needs: sentences may be broken, names and ids may not."""
    total = _GAP * (len(columns) - 1)
    for heading, cell in columns:
        texts = [heading, *(str(cell(item)) for item in items)]
        total += max(min(cell_len(text), _SENTENCE_WIDTH) if " " in text else cell_len(text) for text in texts)
    return total


def _block(item: T, columns: Sequence[Column[T]]) -> Table:
    """Returns one item line by line, for a terminal that is too narrow for a row. What is empty is left out."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for heading, cell in columns:
        value = cell(item)
        if str(value):
            table.add_row(heading, value)
    return table


def table_of(items: Sequence[T], columns: Sequence[Column[T]]) -> Table:
    """Returns one row per item."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading, _ in columns:
        table.add_column(heading, overflow="fold")
    for item in items:
        table.add_row(*(cell(item) for _, cell in columns))
    return table


def print_page(page: Page[T], columns: Sequence[Column[T]], *, empty: str) -> None:
    """Prints a page as a table, and how to get the next one."""
    print_table(page.data, columns, empty=empty)
    if page.has_more:
        stderr().print(f"There are more: --after {page.last_id}")


def print_fields(fields: Sequence[tuple[str, str | Text | None]]) -> None:
    """Prints ``name  value`` lines, leaving out what is None."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in fields:
        if value is not None:
            table.add_row(name, value)
    stdout().print(table)


def status_text(status: JobStatus) -> Text:
    """Returns a job's status in its colour."""
    return Text(status, style=STATUS_STYLES[status])


def short_id(text: str) -> str:
    """Returns an id as ``job_..49d5de``: its end is random, its beginning the time and much the same for things of one day."""
    prefix, _, digits = text.partition("_")
    return f"{prefix}_..{digits[-6:]}"


def bytes_text(size_bytes: int) -> str:
    """Returns a size as people read it: 11.5 MB, decimal units."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def duration_text(seconds: float) -> str:
    """Returns a duration as people read it, in its two largest units: 8.2 s, 3 min 20 s, 2 h 5 min, 1 d 3 h."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    for (large, size), (small, rest) in pairwise((("d", 86400), ("h", 3600), ("min", 60), ("s", 1))):
        if whole >= size:
            left = whole % size // rest
            return f"{whole // size} {large}" + (f" {left} {small}" if left else "")
    return f"{whole} s"


def time_text(moment: datetime | None) -> str:
    """Returns a moment in local time, to the second."""
    return "" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
