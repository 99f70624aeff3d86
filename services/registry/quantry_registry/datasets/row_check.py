"""The rule for rows, checked while they stream: UTF-8, one JSON object a line, all of one kind."""

from __future__ import annotations

from collections.abc import Callable

from quantry_core.datasets import DatasetKind, DatasetStatistics
from quantry_core.errors import InvalidInput
from quantry_core.rows import MAX_ROW_BYTES, BadRow, Row, kind_of_row, parse_row
from quantry_registry.datasets.problems import Problems
from quantry_registry.datasets.statistics import RowTally

RowRule = Callable[[Row], str | None]
"""Says why a row is not taken though it is one; None if it is."""


def takes_every_row(_row: Row) -> None:
    """The rule of datasets of which nobody knows yet what they are for."""


class RowsCheck:
    """Feed it the bytes in order, in pieces of any size, then ``finish``. Holds no more than a row. Lines of white space are let be."""

    def __init__(self, kind: DatasetKind | None, rule: RowRule = takes_every_row) -> None:
        self.kind = kind
        """None until the first good row tells it."""
        self._rule = rule
        self._problems = Problems()
        self._tally = RowTally(kind) if kind is not None else None
        self._pending = bytearray()
        self._is_skipping = False
        self._num_lines = 0
        self._num_bytes = 0
        """Before the line that is pending."""

    def feed(self, piece: bytes) -> None:
        """Checks the next bytes; what is bad is told at the end."""
        lines = piece.split(b"\n")
        for line in lines[:-1]:
            self._gather(line)
            self._end_line(1)
        self._gather(lines[-1])

    def finish(self) -> DatasetStatistics:
        """Returns what was counted; raises InvalidInput naming each bad line, or if there was no row at all."""
        if self._pending or self._is_skipping:
            self._end_line(0)
        self._problems.check()
        if self._tally is None or (counted := self._tally.statistics(self._num_lines)).num_rows == 0:
            raise InvalidInput("the file is empty" if self._num_bytes == 0 else "the file has no rows, nothing but white space")
        return counted

    def _gather(self, part: bytes) -> None:
        if self._is_skipping:
            self._num_bytes += len(part)
            return
        self._pending += part
        if len(self._pending) > MAX_ROW_BYTES:
            line = self._num_lines + 1
            self._problems.add(line, f"line {line} is longer than {MAX_ROW_BYTES} bytes, the most that a row has")
            self._num_bytes += len(self._pending)
            self._pending.clear()
            self._is_skipping = True

    def _end_line(self, newline_bytes: int) -> None:
        self._num_lines += 1
        if not self._is_skipping and self._pending.strip():
            try:
                self._take(self._decoded())
            except BadRow as error:
                self._problems.add(self._num_lines, f"line {self._num_lines} {error}")
        self._num_bytes += len(self._pending) + newline_bytes
        self._pending.clear()
        self._is_skipping = False

    def _decoded(self) -> str:
        nul_at = self._pending.find(0)
        try:
            text = self._pending.decode()
        except UnicodeDecodeError as error:
            raise BadRow(f"is not UTF-8 at byte {self._num_bytes + error.start}: {error.reason}; save it as UTF-8") from error
        if nul_at >= 0:
            raise BadRow(f"has a NUL at byte {self._num_bytes + nul_at}; is this a binary file?")
        return text

    def _take(self, line: str) -> None:
        if self.kind is None:
            self.kind = kind_of_row(line)
        if self._tally is None:
            self._tally = RowTally(self.kind)
        row = parse_row(self.kind, line)
        if (reason := self._rule(row)) is not None:
            raise BadRow(reason)
        self._tally.add(self._num_lines, row)
