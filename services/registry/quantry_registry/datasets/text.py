"""The rule for a dataset's text, checked while it streams: UTF-8, no NUL, something other than white space."""

from __future__ import annotations

import codecs

from quantry_core.errors import InvalidInput


class TextCheck:
    """Feed it the bytes in order, in pieces of any size, then ``finish``. Holds no more than a split character."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._num_bytes = 0
        self._num_newlines = 0
        self._has_text = False

    def feed(self, piece: bytes) -> None:
        """Checks the next bytes; raises InvalidInput naming byte and line of the first bad one."""
        pending = self._decoder.getstate()[0]
        nul_at = piece.find(0)
        try:
            text = self._decoder.decode(piece if nul_at < 0 else piece[:nul_at], final=nul_at >= 0)
        except UnicodeDecodeError as error:
            raise self._not_utf8(error, pending, piece) from error
        if nul_at >= 0:
            raise InvalidInput(f"the text has a NUL at {self._place(piece, nul_at)}; is this a binary file?")
        self._has_text = self._has_text or bool(text.strip())
        self._num_bytes += len(piece)
        self._num_newlines += piece.count(b"\n")

    def finish(self) -> None:
        """Checks the end; raises InvalidInput if a character is cut off there, or if there was no text at all."""
        pending = self._decoder.getstate()[0]
        try:
            self._decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise self._not_utf8(error, pending, b"") from error
        if not self._has_text:
            raise InvalidInput("the text is empty" if self._num_bytes == 0 else "the text has nothing but white space")

    def _not_utf8(self, error: UnicodeDecodeError, pending: bytes, piece: bytes) -> InvalidInput:
        """``error`` counts from the bytes that were pending before ``piece``."""
        return InvalidInput(f"the text is not UTF-8 at {self._place(piece, error.start - len(pending))}: {error.reason}; save it as UTF-8")

    def _place(self, piece: bytes, at: int) -> str:
        line = 1 + self._num_newlines + piece.count(b"\n", 0, max(at, 0))
        return f"byte {self._num_bytes + at} (line {line})"
