"""Bytes from a pipe into lines, and lines into text that is safe to store and to print."""

from __future__ import annotations

import re

MAX_LINE_CHARS = 2000
MAX_LINE_BYTES = 4 * MAX_LINE_CHARS
"""UTF-8 needs at most four bytes per character."""

_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class LineBuffer:
    """Cuts a byte stream into lines. A line longer than ``max_bytes`` is cut there; the rest of it is dropped."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pending = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Returns the lines that are complete with ``data``, without their newlines."""
        *complete, rest = data.split(b"\n")
        lines: list[bytes] = []
        for part in complete:
            self._append(part)
            lines.append(bytes(self._pending))
            self._pending.clear()
        self._append(rest)
        return lines

    def close(self) -> list[bytes]:
        """Returns what is left at the end of the stream: nothing or one line."""
        rest = bytes(self._pending)
        self._pending.clear()
        return [rest] if rest else []

    def _append(self, part: bytes) -> None:
        self._pending += part[: self._max_bytes - len(self._pending)]


def log_text(line: bytes) -> str:
    """Returns a log line as text of at most MAX_LINE_CHARS, what is not UTF-8 replaced.

    A progress bar redraws one line with carriage returns; its last state is kept.
    """
    drawings = [drawing for drawing in line.split(b"\r") if drawing.strip()]
    return clean_text(drawings[-1].decode(errors="replace"), MAX_LINE_CHARS) if drawings else ""


def clean_text(text: str, max_chars: int) -> str:
    """Returns text without terminal escapes and control characters (Postgres takes no NUL), cut to ``max_chars``."""
    cleaned = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", _ESCAPE_SEQUENCE.sub("", text))
    return cleaned if len(cleaned) <= max_chars else cleaned[: max_chars - 1] + "…"
