"""Clients that ask at a rate, whatever the answers take: an open loop, as many people are."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from bench.report import percentile

RELEASE_HEADER = "x-quantry-release"
PATIENCE_S = 120.0
"""A client that has no answer by then has failed."""

Judge = Callable[[str], bool]
"""What a reader thinks of an answer's text."""


@dataclass
class Asked:
    """One request. Times are those of time.monotonic, in seconds."""

    sent_s: float
    ended_s: float = 0.0
    release: str = ""
    """The number of the release that answered, as the gateway says."""

    text: str = ""
    failure: str = ""
    """Why it failed; empty where it was answered whole."""

    ttft_s: float | None = None
    """Of a streamed answer."""


@dataclass
class Clients:
    """Everything that was asked so far."""

    asked: list[Asked] = field(default_factory=list)
    is_over: threading.Event = field(default_factory=threading.Event)

    def close(self) -> None:
        """Counts what has not ended by now as failed: nobody hears of it any more."""
        for one in self.asked:
            if not one.ended_s:
                one.failure = one.failure or "its client broke off or never heard the end"
                one.ended_s = time.monotonic()

    def ended(self, *, since: int = 0) -> list[Asked]:
        """Returns the requests that have ended, but for the first ``since`` that were sent."""
        return [one for one in self.asked[since:] if one.ended_s]

    def failed(self, *, since: int = 0) -> list[Asked]:
        """Returns those that were not answered whole."""
        return [one for one in self.ended(since=since) if one.failure]

    def latency_s(self, share: float, *, since: int = 0) -> float:
        """Returns a quantile of the seconds that whole answers took; NaN where there were none."""
        taken_s = [one.ended_s - one.sent_s for one in self.ended(since=since) if not one.failure]
        return percentile(taken_s, share) if taken_s else float("nan")


@dataclass(frozen=True)
class Load:
    """What clients ask, and how often."""

    url: str
    api_key: str
    model: str
    requests_per_s: float
    prompts: Sequence[str]
    max_tokens: int = 16
    stream_every: int = 2
    """Each so-manieth request is streamed; 0: none is."""

    judge: Judge | None = None
    """Whose word on each whole answer is sent as feedback; None: nobody says anything."""


@contextmanager
def asking(load: Load) -> Iterator[Clients]:
    """Yields what clients are answered while the block runs; what is under way at its end is waited for."""
    clients = Clients()
    thread = threading.Thread(target=lambda: asyncio.run(_ask_all(load, clients)), daemon=True)
    thread.start()
    try:
        yield clients
    finally:
        clients.is_over.set()
        thread.join(PATIENCE_S + 10)
        clients.close()


async def _ask_all(load: Load, clients: Clients) -> None:
    headers = {"Authorization": f"Bearer {load.api_key}"}
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(load.url, headers=headers, timeout=timeout, connector=connector) as session:
        began_s = time.monotonic()
        running: set[asyncio.Task[None]] = set()
        number = 0
        while not clients.is_over.is_set():
            one = Asked(time.monotonic())
            clients.asked.append(one)
            body = {"model": load.model, "prompt": load.prompts[number % len(load.prompts)], "max_tokens": load.max_tokens}
            is_streamed = bool(load.stream_every) and number % load.stream_every == 0
            task = asyncio.create_task(_ask(session, body | {"temperature": 0, "stream": is_streamed}, one, load.judge))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1
            # By the clock and not by the last request: an open loop does not slow down with its server.
            await asyncio.sleep(max(0.0, began_s + number / load.requests_per_s - time.monotonic()))
        if running:
            await asyncio.wait(running, timeout=PATIENCE_S)


async def _ask(session: aiohttp.ClientSession, body: dict[str, Any], one: Asked, judge: Judge | None) -> None:
    answer_id = ""
    try:
        async with session.post("/v1/completions", json=body) as response:
            one.release = response.headers.get(RELEASE_HEADER, "")
            if response.status != 200:
                one.failure = f"{response.status} {(await response.text())[:300]}"
            elif body["stream"]:
                await _hear(response, one)
            else:
                document = await response.json()
                answer_id, one.text = document["id"], document["choices"][0]["text"]
        # What a reader then says of it is no part of the answer's time.
        one.ended_s = time.monotonic()
        if judge is not None and answer_id:
            await (await session.post("/v1/feedback", json={"id": answer_id, "approves": judge(one.text)})).read()
    # ValueError and LookupError: an answer that was cut in its middle, or is none.
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError, LookupError) as error:
        one.failure = f"{type(error).__name__}: {error}"
        one.ended_s = time.monotonic()


async def _hear(response: aiohttp.ClientResponse, one: Asked) -> None:
    is_done = False
    async for line in response.content:
        data = line.strip().removeprefix(b"data:").strip()
        if not data:
            continue
        if data == b"[DONE]":
            is_done = True
            continue
        document = json.loads(data)
        if "error" in document:
            one.failure = one.failure or f"told: {document['error']}"
            return
        one.ttft_s = one.ttft_s or time.monotonic() - one.sent_s
        one.text += "".join(choice.get("text", "") for choice in document["choices"])
    if not is_done:
        one.failure = one.failure or "cut without a word"
