"""The engine of the comparison: answers at once, in OpenAI's shapes. ``python -m bench.gateway.upstream <port>``

A whole answer unless the body asks for a stream; then ``max_tokens`` events, one each EVENT_GAP_S, as an engine decodes. A stream of
HELD_TOKENS or more says one event and then nothing until its client goes. It looks for those two fields only: the engine should cost as
little as it can.
"""

from __future__ import annotations

import asyncio
import re
import sys
from typing import cast

import uvloop

EVENT_GAP_S = 0.02
HELD_TOKENS = 100_000
STREAMED = re.compile(rb'"stream": ?true')
MAX_TOKENS = re.compile(rb'"max_tokens": ?(\d+)')
CONTENT_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)

_MODELS = b'{"object":"list","data":[{"id":"bard","object":"model","created":1,"owned_by":"bench"}]}'
_ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"bard","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"To be, or not to be, that is the question."},"logprobs":null,"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":12,"completion_tokens":12,"total_tokens":24}}'
)
# LiteLLM takes a hundred equal events for a model that has gone mad.
_EVENTS = [
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"bard",'
    b'"choices":[{"index":0,"delta":{"content":"%b"},"logprobs":null,"finish_reason":null}]}\n\n' % word
    for word in (b" be", b" or", b" to")
]
_LAST = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"bard",'
    b'"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}\n\n'
)
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"


def _whole(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


class Engine(asyncio.Protocol):
    """One connection; its requests come one after the other."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._wanted_bytes = 0
        """Of the request that is arriving, once its head is known."""

        self._got_bytes = 0
        self._next: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is one in all but its base class.
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, _error: Exception | None) -> None:
        if self._next is not None:
            self._next.cancel()

    def data_received(self, data: bytes) -> None:
        self._pieces.append(data)
        self._got_bytes += len(data)
        if not self._wanted_bytes:
            arrived = b"".join(self._pieces)
            end = arrived.find(b"\r\n\r\n")
            if end < 0:
                return
            length = CONTENT_LENGTH.search(arrived, 0, end)
            self._wanted_bytes = end + 4 + (int(length[1]) if length else 0)
        if self._got_bytes >= self._wanted_bytes:
            request = b"".join(self._pieces)
            self._pieces, self._got_bytes, self._wanted_bytes = [], 0, 0
            self._answer(request)

    def _answer(self, request: bytes) -> None:
        if request.startswith(b"GET"):
            self._transport.write(_whole(_MODELS if b"/models" in request[:64] else b"{}"))
        elif STREAMED.search(request) is None:
            self._transport.write(_whole(_ANSWER))
        else:
            found = MAX_TOKENS.search(request)
            num_events = int(found[1]) if found else 16
            self._transport.write(_STREAM_HEAD + _chunk(_EVENTS[0]))
            if num_events < HELD_TOKENS:
                self._next = asyncio.get_running_loop().call_later(EVENT_GAP_S, self._go_on, num_events - 1)

    def _go_on(self, num_left: int) -> None:
        if num_left <= 0:
            self._transport.write(_chunk(_LAST) + _chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            self._next = None
            return
        self._transport.write(_chunk(_EVENTS[num_left % len(_EVENTS)]))
        self._next = asyncio.get_running_loop().call_later(EVENT_GAP_S, self._go_on, num_left - 1)


async def serve(port: int) -> None:
    """Answers until it is ended."""
    server = await asyncio.get_running_loop().create_server(Engine, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
