"""Server-sent events on their way through: cut only between events, and known to be complete or not."""

from __future__ import annotations

_BOUNDARIES = (b"\n\n", b"\r\n\r\n")
_DONE = b"data: [DONE]"
_DONE_BYTES = len(_DONE) + 4


class EventBoundary:
    """Passes bytes on up to the end of the last whole event, so that an error event can always follow.

    Engines write one whole event per chunk, so hardly anything is ever held back.
    """

    def __init__(self) -> None:
        self._tail = b""
        self._last_bytes = b""

    def feed(self, chunk: bytes) -> bytes:
        """Returns what may be passed on now: whole events."""
        data = self._tail + chunk if self._tail else chunk
        if data.endswith(_BOUNDARIES):
            self._tail = b""
            passed = data
        else:
            end = _end_of_last_event(data)
            self._tail = data[end:]
            passed = data[:end]
        if len(passed) >= _DONE_BYTES:
            self._last_bytes = passed
        elif passed:
            self._last_bytes = self._last_bytes[-_DONE_BYTES:] + passed
        return passed

    @property
    def saw_done(self) -> bool:
        """Whether the last event passed on was OpenAI's ``data: [DONE]``: the stream is complete."""
        return self._last_bytes.rstrip(b"\r\n").endswith(_DONE)


def _end_of_last_event(data: bytes) -> int:
    ends = [data.rfind(boundary) + len(boundary) for boundary in _BOUNDARIES if boundary in data]
    return max(ends, default=0)
