"""An engine in a process of its own, so that it can be killed: streams one event every few hundredths of a second.

As vLLM it ends its streams in the middle when it is asked to end.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from factories.gateway import COMPLETION_ANSWER, DONE, chat_event

EVENT_S = 0.03


async def answer(request: web.Request) -> web.StreamResponse:
    """Streams as many events as max_tokens says, or answers whole after as long."""
    asked = json.loads(await request.read())
    num_events = int(asked.get("max_tokens", 10))
    if not asked.get("stream"):
        await asyncio.sleep(num_events * EVENT_S)
        return web.Response(body=COMPLETION_ANSWER, content_type="application/json")
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(num_events):
        await asyncio.sleep(EVENT_S)
        await response.write(chat_event("To"))
    await response.write(DONE)
    await response.write_eof()
    return response


async def serve() -> None:
    """Serves on a free port, which it prints."""
    app = web.Application()
    app.router.add_post("/{path:.*}", answer)
    runner = web.AppRunner(app, handle_signals=False, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, os._exit, 0)
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


@dataclass
class KillableEngine:
    """A running one."""

    url: str
    process: asyncio.subprocess.Process

    async def end(self, number: signal.Signals) -> None:
        """Sends it a signal and waits until it is gone."""
        self.process.send_signal(number)
        await self.process.wait()


@asynccontextmanager
async def killable_engine() -> AsyncIterator[KillableEngine]:
    """Yields one; it is gone afterwards."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "factories.killable_engine", env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        port = int(await asyncio.wait_for(process.stdout.readline(), 20))
        yield KillableEngine(f"http://127.0.0.1:{port}", process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


if __name__ == "__main__":
    asyncio.run(serve())
