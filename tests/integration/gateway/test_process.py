"""The gateway as a process: its stop, and its start with wrong settings."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import aiohttp
from aiohttp import web

from factories.gateway import StartEngines, chat_event, hang, refusing_url, route, snapshot, until, until_any
from factories.servers import free_port


async def test_a_stop_ends_streams_with_an_error_within_three_seconds(
    start_engines: StartEngines, tmp_path: Path, http: aiohttp.ClientSession
) -> None:
    async def never_end(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(chat_event("To"))
        await asyncio.sleep(60)
        return response

    engines = await start_engines(never_end, hang)
    routes = snapshot(route("streams", engines[0].url), route("hangs", engines[1].url))
    (tmp_path / "routes.json").write_text(routes.model_dump_json())
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "QUANTRY_GATEWAY_PORT": str(port),
        "QUANTRY_API_URL": refusing_url(),
        "QUANTRY_REGISTRY_URL": refusing_url(),
        "QUANTRY_GATEWAY_TOKEN": "qtr_token-that-is-in-no-log",
        "QUANTRY_GATEWAY_STATE_DIR": str(tmp_path),
    }
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "quantry_gateway", env=environment, stderr=asyncio.subprocess.PIPE)
    url = f"http://127.0.0.1:{port}"

    async def is_up() -> bool:
        try:
            async with http.get(f"{url}/healthz") as answer:
                return answer.status == 200
        except aiohttp.ClientConnectorError:
            return False

    try:
        await until(is_up, timeout_s=20)
        streaming = await http.post(f"{url}/v1/chat/completions", json={"model": "streams", "stream": True})
        assert await streaming.content.readany() == chat_event("To")
        waiting = asyncio.create_task(http.post(f"{url}/v1/completions", json={"model": "hangs"}))
        await until_any(engines[1].bodies)
        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        rest = await streaming.content.read()
        answer = await waiting
        log = (await process.stderr.read()).decode() if process.stderr else ""
        await process.wait()
        assert time.monotonic() - began_s < 3.0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert b'"code":"shutting_down"' in rest
    assert answer.status == 503
    assert answer.headers["retry-after"] == "2"
    assert "Traceback" not in log
    assert "qtr_token" not in log


async def test_missing_settings_are_named() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "quantry_gateway", env={"PATH": os.environ["PATH"]}, stderr=asyncio.subprocess.PIPE
    )
    _, stderr = await process.communicate()
    assert process.returncode == 2
    for name in (b"QUANTRY_API_URL", b"QUANTRY_REGISTRY_URL", b"QUANTRY_GATEWAY_TOKEN", b"QUANTRY_GATEWAY_STATE_DIR"):
        assert name in stderr
