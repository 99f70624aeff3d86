"""The rule for plain text, checked while it streams: UTF-8, no NUL, something other than white space."""

from __future__ import annotations

import codecs

from quantry_core.datasets import DatasetStatistics
from quantry_core.errors import InvalidInput
from quantry_registry.datasets.problems import Problems
from quantry_registry.datasets.statistics import num_non_ascii, share_of


class TextCheck:
    """Feed it the bytes in order, in pieces of any size, then ``finish``. Holds no more than a split character."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._problems = Problems()
        self._is_skipping = False
        """After a problem the rest of its line is passed over."""
        self._num_bytes = 0
        self._num_newlines = 0
        self._num_characters = 0
        self._num_non_ascii = 0
        self._ends_in_newline = True
        self._has_text = False

    def feed(self, piece: bytes) -> None:
        """Checks the next bytes; what is bad is told at the end, with byte and line."""
        rest = piece
        while rest:
            rest = self._skip(rest) if self._is_skipping else self._take(rest)

    def finish(self) -> DatasetStatistics:
        """Returns what was counted; raises InvalidInput for what was bad, a character cut off at the end, or no text at all."""
        pending = self._decoder.getstate()[0]
        try:
            self._decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            self._note(self._not_utf8(error, b"", -len(pending)), b"", -len(pending))
        self._problems.check()
        if not self._has_text:
            raise InvalidInput("the text is empty" if self._num_bytes == 0 else "the text has nothing but white space")
        return DatasetStatistics(
            num_characters=self._num_characters,
            num_lines=self._num_newlines + (0 if self._ends_in_newline else 1),
            non_ascii_share=share_of(self._num_non_ascii, self._num_characters),
        )

    def _take(self, piece: bytes) -> bytes:
        """Checks a piece and returns what of it is not yet read: what follows a problem."""
        pending = self._decoder.getstate()[0]
        nul_at = piece.find(0)
        try:
            text = self._decoder.decode(piece if nul_at < 0 else piece[:nul_at], final=nul_at >= 0)
        except UnicodeDecodeError as error:
            # The error counts from the bytes that were pending before this piece.
            at = error.start - len(pending)
            return self._note(self._not_utf8(error, piece, at), piece, at)
        if nul_at >= 0:
            return self._note(f"the text has a NUL at {self._place(piece, nul_at)}; is this a binary file?", piece, nul_at)
        self._has_text = self._has_text or bool(text.strip())
        self._num_characters += len(text)
        self._num_non_ascii += num_non_ascii(text)
        self._ends_in_newline = piece.endswith(b"\n")
        self._count(piece)
        return b""

    def _skip(self, piece: bytes) -> bytes:
        """Passes over the rest of a line and returns what follows it."""
        end = piece.find(b"\n")
        self._is_skipping = end < 0
        taken = len(piece) if end < 0 else end + 1
        self._count(piece[:taken])
        return piece[taken:]

    def _note(self, sentence: str, piece: bytes, at: int) -> bytes:
        self._problems.add(self._line(piece, at), sentence)
        self._decoder.reset()
        self._is_skipping = True
        self._count(piece[: max(at, 0)])
        return piece[max(at, 0) :]

    def _count(self, piece: bytes) -> None:
        self._num_bytes += len(piece)
        self._num_newlines += piece.count(b"\n")

    def _not_utf8(self, error: UnicodeDecodeError, piece: bytes, at: int) -> str:
        return f"the text is not UTF-8 at {self._place(piece, at)}: {error.reason}; save it as UTF-8"

    def _place(self, piece: bytes, at: int) -> str:
        return f"byte {self._num_bytes + at} (line {self._line(piece, at)})"

    def _line(self, piece: bytes, at: int) -> int:
        return 1 + self._num_newlines + piece.count(b"\n", 0, max(at, 0))
