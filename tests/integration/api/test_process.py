"""The service as it is started: its own process, a real socket, JSON logs, an orderly end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

import httpx

from factories.servers import free_port
from quantry_api.bootstrap import bootstrap
from quantry_store.database import Database

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0


async def wait_until_well(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(READY_TIMEOUT_S):
        while True:
            try:
                if (await client.get("/healthz")).status_code == 200:
                    return
            except httpx.TransportError:
                await asyncio.sleep(0.1)


async def test_it_serves_streams_as_they_come_and_stops_when_told(database_url: str, redis_url: str, tmp_path: Path) -> None:
    database = Database(database_url)
    admin_key = (await bootstrap(database))["admin_key"]
    await database.close()
    port = free_port()
    environment = {
        **os.environ,
        "QUANTRY_DATABASE_URL": database_url,
        "QUANTRY_BROKER_URL": redis_url,
        "QUANTRY_API_PORT": str(port),
    }
    log = tmp_path / "api.log"
    with log.open("wb") as stderr:
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "quantry_api", env=environment, stderr=stderr)
    headers = {"Authorization": f"Bearer {admin_key}", "X-Request-Id": "the-test"}
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=10) as client:
            await wait_until_well(client)
            spec = {"type": "import", "model": "bard", "source": "hf:owner/name"}
            job = (await client.post("/api/v1/jobs", json={"spec": spec})).json()
            async with client.stream("GET", f"/api/v1/jobs/{job['id']}/events") as stream:
                lines = stream.aiter_lines()
                # It comes while the job is still queued and the stream open.
                assert await asyncio.wait_for(anext(lines), 5) == "event: state"
                process.send_signal(signal.SIGTERM)
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    submitted = next(entry for entry in entries if entry.get("method") == "POST")
    assert (submitted["service"], submitted["request_id"], submitted["status"]) == ("api", "the-test", 201)
    assert admin_key not in log.read_text()
