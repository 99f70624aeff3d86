"""Clients that stream from a deployment without a pause, and what became of every request of theirs."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import aiohttp

from chaos.platform import Chaos

TOKENS_PER_REQUEST = 10
SILENCE_S = 60.0
"""A client that hears nothing for so long gives up; that counts as a cut."""

DONE, DATA = b"[DONE]", b"data:"


class Ending(StrEnum):
    """done: whole. told: it broke off, and an error event said so. cut: it broke off without a word. refused: no answer at all."""

    DONE = "done"
    TOLD = "told"
    CUT = "cut"
    REFUSED = "refused"


@dataclass
class Asked:
    """One request. Times are those of time.monotonic, in seconds."""

    sent_s: float
    ending: Ending = Ending.CUT
    ended_s: float = 0.0
    last_event_s: float = 0.0
    """When its last event that was no error came; 0 for none."""

    num_tokens: int = 0

    answered_by: str = ""
    """The engine's name."""

    words: str = ""
    """Of a refusal or an error."""


@dataclass
class Streams:
    """What was asked so far, and the switch that ends it."""

    asked: list[Asked] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        """Counts what has not ended by now as cut: nobody hears of it any more."""
        for one in self.asked:
            if not one.ended_s:
                one.ending, one.ended_s = Ending.CUT, time.monotonic()
                one.words = one.words or "its client broke off or never heard the end"

    def ended(self, *, since: int = 0) -> list[Asked]:
        """Returns the requests that have ended, but for the first ``since`` that were sent."""
        return [one for one in self.asked[since:] if one.ended_s]

    def of(self, ending: Ending, *, since: int = 0) -> list[Asked]:
        """Returns those that ended so."""
        return [one for one in self.ended(since=since) if one.ending is ending]

    def counts(self) -> dict[str, int]:
        """Returns how many ended how."""
        return {ending.value: len(self.of(ending)) for ending in Ending}

    def examples(self, *endings: Ending, num: int = 3) -> list[str]:
        """Returns what a few of those were told."""
        return [f"{one.ending}: {one.words[:160]}" for ending in endings for one in self.of(ending)[:num]]


@contextmanager
def streaming(chaos: Chaos, model: str, num_clients: int) -> Iterator[Streams]:
    """Yields what so many clients are answered while the block runs; at its end what is under way is waited for."""
    streams = Streams()
    thread = threading.Thread(target=lambda: asyncio.run(_clients(chaos, model, num_clients, streams)), daemon=True)
    thread.start()
    try:
        yield streams
    finally:
        streams.is_over.set()
        thread.join(SILENCE_S + 10)
        streams.close()


async def _clients(chaos: Chaos, model: str, num_clients: int, streams: Streams) -> None:
    headers = {"Authorization": f"Bearer {chaos.api_key}"}
    timeout = aiohttp.ClientTimeout(total=None, sock_read=SILENCE_S)
    async with aiohttp.ClientSession(
        chaos.url, headers=headers, timeout=timeout, connector=aiohttp.TCPConnector(limit=0), trust_env=False
    ) as session:

        async def asks(number: int) -> None:
            # Not all in one moment.
            await asyncio.sleep(number / num_clients)
            turn = 0
            while not streams.is_over.is_set():
                turn += 1
                body = {
                    "model": model,
                    "messages": [{"role": "user", "content": f"{number}.{turn}"}],
                    "max_tokens": TOKENS_PER_REQUEST,
                    "stream": True,
                    "user": f"client-{number}",
                }
                one = Asked(time.monotonic())
                streams.asked.append(one)
                await _ask(session, body, one)
                one.ended_s = time.monotonic()

        await asyncio.gather(*(asks(number) for number in range(num_clients)))


async def _ask(session: aiohttp.ClientSession, body: dict[str, Any], one: Asked) -> None:
    try:
        async with session.post("/v1/chat/completions", json=body) as response:
            if response.status != 200:
                one.ending, one.words = Ending.REFUSED, f"{response.status} {(await response.text())[:300]}"
                return
            async for line in response.content:
                hear(line.strip(), one)
    # ValueError: a line that was cut in its middle.
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        one.words = one.words or f"{type(error).__name__}: {error}"


def hear(line: bytes, one: Asked) -> None:
    """Takes one line of a stream; ValueError for data that is no JSON. An end that comes before the last token is none."""
    if not line.startswith(DATA):
        return
    data = line.removeprefix(DATA).strip()
    if data == DONE:
        # After an error event it is no end of an answer.
        if one.ending is Ending.TOLD:
            return
        if one.num_tokens == TOKENS_PER_REQUEST:
            one.ending = Ending.DONE
        else:
            one.words = f"{one.num_tokens} of {TOKENS_PER_REQUEST} tokens"
        return
    document = json.loads(data)
    if "error" in document:
        one.ending, one.words = Ending.TOLD, str(document["error"])
        return
    one.last_event_s = time.monotonic()
    one.num_tokens += bool(document.get("choices"))
    one.answered_by = one.answered_by or str(document.get("system_fingerprint"))
