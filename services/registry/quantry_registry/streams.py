"""A blob's chunks, which block while they come, as an asynchronous stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator
from threading import Lock


async def open_stream(chunks: Generator[bytes, None, None]) -> AsyncIterator[bytes]:
    """Returns the chunks as an asynchronous stream, the first one fetched already.

    So what goes wrong at the beginning is raised here, while an answer can still become an error.
    """
    reader = _Reader(chunks)
    first = await asyncio.to_thread(reader.next)
    return _stream(reader, first)


async def _stream(reader: _Reader, first: bytes | None) -> AsyncIterator[bytes]:
    chunk = first
    try:
        while chunk is not None:
            yield chunk
            chunk = await asyncio.to_thread(reader.next)
    finally:
        # Not awaited: when the client has left this task is cancelled, and a thread may still be waiting for its chunk.
        asyncio.get_running_loop().run_in_executor(None, reader.close)


class _Reader:
    """A generator that one thread may close while another is inside it."""

    def __init__(self, chunks: Generator[bytes, None, None]) -> None:
        self._chunks = chunks
        self._lock = Lock()

    def next(self) -> bytes | None:
        """Returns the next chunk; None at the end."""
        with self._lock:
            return next(self._chunks, None)

    def close(self) -> None:
        """Gives the connection back."""
        with self._lock:
            self._chunks.close()
