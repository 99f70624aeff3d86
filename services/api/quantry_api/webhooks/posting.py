"""One message to one receiver: posted by the guarded way out, within a time, its answer read as far as it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

import httpx

from quantry_core.errors import OutboundRefused
from quantry_core.webhooks import MAX_ANSWER_CHARS

MAX_ANSWER_BYTES = 4 * MAX_ANSWER_CHARS
USER_AGENT = "Quantry-Webhooks/1"


class NotSent(Exception):
    """No answer came. The text is a sentence for people, without the address."""


class Answer(NamedTuple):
    """What a receiver said."""

    status: int
    text: str
    """The beginning of its body."""
    retry_after: str | None


class Poster:
    """Posts by a transport that keeps no connection, follows no redirect and goes to checked addresses alone."""

    def __init__(self, transport: httpx.AsyncBaseTransport, *, timeout_s: float) -> None:
        self._transport = transport
        self._timeout_s = timeout_s

    async def post(self, url: str, body: bytes, fields: Mapping[str, str]) -> Answer:
        """Returns what the receiver answered; raises NotSent."""
        # Without a client around it: that would write the address, which may be a secret, into the log.
        try:
            request = httpx.Request(
                "POST",
                url,
                headers={"content-type": "application/json", "user-agent": USER_AGENT, "accept-encoding": "identity", **fields},
                content=body,
                extensions={"timeout": httpx.Timeout(self._timeout_s).as_dict()},
            )
            async with asyncio.timeout(self._timeout_s):
                response = await self._transport.handle_async_request(request)
        except OutboundRefused as error:
            raise NotSent(error.detail) from error
        except (TimeoutError, httpx.TimeoutException) as error:
            raise NotSent(f"no answer within {self._timeout_s:g} s") from error
        except (httpx.TransportError, httpx.InvalidURL, OSError) as error:
            raise NotSent(_words(error)) from error
        text = await self._beginning(response)
        return Answer(response.status_code, text, response.headers.get("retry-after"))

    async def _beginning(self, response: httpx.Response) -> str:
        read = bytearray()
        # What was answered counts, however the rest of it goes.
        with suppress(TimeoutError, httpx.TransportError, OSError):
            async with asyncio.timeout(self._timeout_s):
                async for part in response.aiter_raw():
                    read += part
                    if len(read) >= MAX_ANSWER_BYTES:
                        break
        with suppress(httpx.TransportError, OSError):
            await response.aclose()
        return _printable(bytes(read[:MAX_ANSWER_BYTES]).decode("utf-8", "replace")[:MAX_ANSWER_CHARS])


def _printable(text: str) -> str:
    """Returns text without what a terminal would obey."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "\N{REPLACEMENT CHARACTER}" for sign in text)


def _words(error: Exception) -> str:
    kinds = {
        httpx.ConnectError: "no connection",
        httpx.ReadError: "the connection broke off before an answer",
        httpx.WriteError: "the connection broke off while the message was sent",
        httpx.RemoteProtocolError: "the answer was no HTTP",
        httpx.ProxyError: "the proxy did not let it through",
    }
    what = next((words for kind, words in kinds.items() if isinstance(error, kind)), "the message could not be sent")
    told = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
    return f"{what}: {_printable(told)}"
