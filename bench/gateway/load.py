"""The client of the comparison: requests made once as bytes, answers looked at just enough to know that they are whole."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import NamedTuple

PATH = "/v1/chat/completions"
TIMEOUT_S = 60.0


class Target(NamedTuple):
    """Where requests go, and the key they carry."""

    port: int
    key: str
    model: str


def request_bytes(target: Target, *, body_bytes: int, num_events: int = 0) -> bytes:
    """Returns a request whose body has so many bytes; it asks for a stream of ``num_events`` events unless that is 0."""
    document = {"model": target.model, "messages": [{"role": "user", "content": ""}], "max_tokens": num_events or 16, "temperature": 0}
    if num_events:
        document["stream"] = True
    bare = len(json.dumps(document))
    words = "Speak, I charge thee, what the stars have told. "
    document["messages"] = [{"role": "user", "content": (words * (body_bytes // len(words) + 1))[: max(0, body_bytes - bare)]}]
    body = json.dumps(document).encode()
    head = f"POST {PATH} HTTP/1.1\r\nhost: 127.0.0.1:{target.port}\r\nauthorization: Bearer {target.key}\r\n"
    return f"{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


class Connection:
    """A kept connection; requests go over it one after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, target: Target) -> Connection:
        """Returns a connection to a proxy, or to the engine itself."""
        return cls(*await asyncio.open_connection("127.0.0.1", target.port, limit=1024**2))

    async def ask(self, request: bytes) -> int:
        """Sends a request and reads its answer to the end; returns the events of a streamed one. RuntimeError unless it is a whole 200."""
        self._writer.write(request)
        length_bytes = await self._head()
        if length_bytes is not None:
            await self._reader.readexactly(length_bytes)
            return 0
        num_events, last = 0, b""
        async for piece in self._chunks():
            num_events += piece.count(b"data: {")
            last = (last + piece)[-1000:]
        # A whole answer may come in chunks too.
        if b"data: [DONE]" not in last and (num_events or not last.endswith(b"}")):
            raise RuntimeError(f"a stream ended without [DONE]: {last!r}")
        return num_events

    async def begin(self, request: bytes) -> None:
        """Sends a request and reads the first piece of its streamed answer."""
        self._writer.write(request)
        await self._head()
        await anext(self._chunks())

    async def is_open(self) -> bool:
        """Tells whether the stream that was begun goes on, in silence."""
        try:
            rest = await asyncio.wait_for(self._reader.read(1), 0.001)
        except TimeoutError:
            return True
        return rest != b""

    def close(self) -> None:
        self._writer.close()

    async def _head(self) -> int | None:
        """Returns the length that the answer's head declares; None where the answer comes in chunks."""
        head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), TIMEOUT_S)
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
        length = fields.get(b"content-length")
        if not head.startswith(b"HTTP/1.1 200"):
            body = await self._reader.readexactly(int(length or 0))
            raise RuntimeError(f"not answered but told: {head[:40]!r} {body[:500]!r}")
        return int(length) if length is not None else None

    async def _chunks(self) -> AsyncIterator[bytes]:
        while size_bytes := int(await self._reader.readuntil(b"\r\n"), 16):
            yield (await self._reader.readexactly(size_bytes + 2))[:-2]
        await self._reader.readexactly(2)


class Rate(NamedTuple):
    """What some connections got done."""

    num_requests: int
    seconds: float


async def latencies_ms(target: Target, request: bytes, num_requests: int) -> list[float]:
    """Returns the milliseconds of requests that go one after the other over one connection."""
    connection = await Connection.open(target)
    try:
        taken_ms = []
        for _ in range(num_requests):
            began = time.perf_counter()
            await connection.ask(request)
            taken_ms.append((time.perf_counter() - began) * 1000)
        return taken_ms
    finally:
        connection.close()


async def rate(target: Target, request: bytes, *, num_connections: int, for_s: float) -> Rate:
    """Returns what connections that never pause got done: all ask until the time is over, and what is under way is waited for."""
    began = time.perf_counter()

    async def asks() -> int:
        connection = await Connection.open(target)
        num_requests = 0
        try:
            while time.perf_counter() - began < for_s:
                await connection.ask(request)
                num_requests += 1
        finally:
            connection.close()
        return num_requests

    done = await asyncio.gather(*(asks() for _ in range(num_connections)))
    return Rate(sum(done), time.perf_counter() - began)


async def num_events(target: Target, request: bytes, *, num_streams: int) -> int:
    """Returns the events of streams that are read side by side, one over each of as many connections."""

    async def reads() -> int:
        connection = await Connection.open(target)
        try:
            return await connection.ask(request)
        finally:
            connection.close()

    return sum(await asyncio.gather(*(reads() for _ in range(num_streams))))


async def held_streams(target: Target, request: bytes, num_streams: int, *, at_once: int = 50) -> list[Connection]:
    """Returns connections whose streams have said their first event and then say nothing."""
    connections = []
    for first in range(0, num_streams, at_once):
        opened = [await Connection.open(target) for _ in range(min(at_once, num_streams - first))]
        await asyncio.gather(*(one.begin(request) for one in opened))
        connections += opened
    return connections
