"""Server-sent events, read from bytes. https://html.spec.whatwg.org/multipage/server-sent-events.html"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: its id and kind where given, and its data."""

    data: str
    id: str | None = None
    kind: str | None = None


class EventReader:
    """Turns chunks of bytes into events. Lines end with LF, CRLF or CR; nothing else splits a line, U+2028 included."""

    def __init__(self) -> None:
        self._unfinished = b""
        self._data: list[str] = []
        self._id: str | None = None
        self._kind: str | None = None

    def feed(self, chunk: bytes) -> list[ServerEvent]:
        """Returns the events that this chunk completes."""
        text = self._unfinished + chunk
        held = b""
        if text.endswith(b"\r"):
            # It may be the first half of a CRLF.
            text, held = text[:-1], b"\r"
        *lines, rest = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._unfinished = rest + held
        events = [self._line(line.decode(errors="replace")) for line in lines]
        return [event for event in events if event is not None]

    def _line(self, line: str) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
        elif name == "event":
            self._kind = value
        return None

    def _dispatch(self) -> ServerEvent | None:
        event = ServerEvent(data="\n".join(self._data), id=self._id, kind=self._kind) if self._data else None
        self._data = []
        self._kind = None
        return event
