"""The installed command as a process: real sockets, real signals."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
from pathlib import Path

from aiohttp import web

from factories.client import JOB_ID, KEY, OTHER_JOB_ID, event, event_bytes
from factories.gateway import refusing_url, serving
from quantry_core.jobs import EventKind

QUANTRY = str(Path(sys.executable).with_name("quantry"))


async def start(url: str, *arguments: str) -> asyncio.subprocess.Process:
    environment = {"PATH": os.environ["PATH"], "QUANTRY_URL": url, "QUANTRY_API_KEY": KEY}
    # Whoever runs the tests in the background of a shell has them ignore Ctrl-C, and their children with them.
    return await asyncio.create_subprocess_exec(
        QUANTRY,
        *arguments,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


async def test_ctrl_c_ends_a_watch_with_130_and_the_stream_with_it() -> None:
    closed = asyncio.Event()

    async def never_end(request: web.Request) -> web.StreamResponse:
        assert request.path == f"/api/v1/jobs/{JOB_ID}/events"
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(event_bytes(event(1, EventKind.NOTE, text="it has begun")))
        try:
            await asyncio.sleep(60)
        finally:
            closed.set()
        return response

    async with serving(never_end) as url:
        process = await start(url, "jobs", "watch", JOB_ID)
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 20)
        assert b"it has begun" in line
        process.send_signal(signal.SIGINT)
        _, stderr = await asyncio.wait_for(process.communicate(), 10)
        assert process.returncode == 130
        assert stderr.decode() == f"{JOB_ID} goes on. To stop it: quantry jobs cancel {JOB_ID}\n"
        await asyncio.wait_for(closed.wait(), 5)


async def test_ctrl_c_ends_a_watch_of_several_jobs_at_once() -> None:
    async def never_end(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(event_bytes(event(1, EventKind.NOTE, of=request.path.split("/")[-2], text="it has begun")))
        await asyncio.sleep(60)
        return response

    async with serving(never_end) as url:
        process = await start(url, "jobs", "watch", JOB_ID, OTHER_JOB_ID)
        assert process.stdout is not None
        lines = [await asyncio.wait_for(process.stdout.readline(), 20) for _ in range(2)]
        assert {line.split()[1].decode() for line in lines} == {JOB_ID, OTHER_JOB_ID}
        process.send_signal(signal.SIGINT)
        _, stderr = await asyncio.wait_for(process.communicate(), 10)
        assert process.returncode == 130
        assert stderr.decode().count("goes on") == 2
        assert b"Traceback" not in stderr


async def test_a_closed_pipe_is_no_traceback() -> None:
    async def log(_request: web.Request) -> web.StreamResponse:
        return web.Response(text="a line of the log\n" * 100_000)

    async with serving(log) as url:
        environment = {"PATH": os.environ["PATH"], "QUANTRY_URL": url, "QUANTRY_API_KEY": KEY}
        shell = await asyncio.create_subprocess_shell(
            f"{shlex.quote(QUANTRY)} jobs logs {JOB_ID} | head -n 1",
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        stdout, stderr = await asyncio.wait_for(shell.communicate(), 30)
    assert stdout == b"a line of the log\n"
    assert b"Traceback" not in stderr
    assert b"BrokenPipe" not in stderr


async def test_a_server_that_is_not_there_exits_with_3() -> None:
    url = refusing_url()
    process = await start(url, "jobs", "list")
    stdout, stderr = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 3
    assert stdout == b""
    assert url.encode() in stderr
    assert b"Traceback" not in stderr
