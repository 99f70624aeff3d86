"""What a dataset is, and whether it is good: told from what is declared and from its beginning, checked while it streams."""

from __future__ import annotations

from typing import Protocol

from quantry_core.datasets import MIN_CHARACTERS, DatasetKind, DatasetStatistics
from quantry_core.errors import InvalidInput
from quantry_core.rows import MAX_ROW_BYTES, BadRow, kind_of_row
from quantry_registry.datasets.row_check import RowRule, RowsCheck, takes_every_row
from quantry_registry.datasets.text import TextCheck

JSON_LINES_TYPES = frozenset(
    {"application/jsonl", "application/x-jsonl", "application/jsonlines", "application/ndjson", "application/x-ndjson"}
)
TEXT_TYPES = frozenset({"text/plain", "text/markdown"})
JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")


class Check(Protocol):
    """One rule, fed in pieces of any size."""

    def feed(self, piece: bytes) -> None:
        """Checks the next bytes; what is bad is told at the end."""
        ...

    def finish(self) -> DatasetStatistics:
        """Returns what was counted; raises InvalidInput."""
        ...


class Intake:
    """Feed it the bytes in order, then ``finish``.

    What it is, the first of these that says so: ``kind``; a Content-Type of JSON Lines (rows, their kind by the fields of the
    first good one) or of plain text; a name that ends in .jsonl or .ndjson; a first line that is a JSON object with the fields
    of a row. Otherwise it is plain text. Rows are held to ``rule`` besides.
    """

    def __init__(
        self, name: str, kind: DatasetKind | None = None, content_type: str | None = None, *, rule: RowRule = takes_every_row
    ) -> None:
        self._rule = rule
        self._check = self._declared(name, kind, (content_type or "").partition(";")[0].strip().lower())
        self._beginning = bytearray()

    def feed(self, piece: bytes) -> None:
        """Checks the next bytes; what is bad is told at the end."""
        if self._check is not None:
            self._check.feed(piece)
            return
        self._beginning += piece
        if b"\n" in piece or len(self._beginning) > MAX_ROW_BYTES:
            self._decide()

    def finish(self) -> tuple[DatasetKind, DatasetStatistics]:
        """Returns what it is and what was counted; raises InvalidInput for what was bad or too little."""
        check = self._check or self._decide()
        counted = check.finish()
        if counted.num_characters < MIN_CHARACTERS:
            raise InvalidInput(f"the dataset has {counted.num_characters} characters of text; at least {MIN_CHARACTERS} are needed")
        kind = check.kind if isinstance(check, RowsCheck) else None
        return kind or DatasetKind.TEXT, counted

    def _decide(self) -> Check:
        """Returns the check for what the first line looks like, fed with all there was so far."""
        line = bytes(self._beginning).partition(b"\n")[0]
        check: Check = RowsCheck(None, self._rule) if _is_row(line) else TextCheck()
        self._check = check
        check.feed(bytes(self._beginning))
        self._beginning.clear()
        return check

    def _declared(self, name: str, kind: DatasetKind | None, media_type: str) -> Check | None:
        if kind is DatasetKind.TEXT:
            return TextCheck()
        if kind is not None:
            return RowsCheck(kind, self._rule)
        if media_type in JSON_LINES_TYPES:
            return RowsCheck(None, self._rule)
        if media_type in TEXT_TYPES:
            return TextCheck()
        return RowsCheck(None, self._rule) if name.endswith(JSON_LINES_SUFFIXES) else None


def _is_row(line: bytes) -> bool:
    try:
        kind_of_row(line.decode())
    except (UnicodeDecodeError, BadRow):
        return False
    return True
