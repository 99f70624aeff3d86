"""The process driver where the others have nothing like it: ports, and what a controller that was killed left behind."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from factories.pools import ProcessPool, until
from factories.servers import free_port
from quantry_deploy.drivers import processes
from quantry_deploy.drivers.processes import EngineProcess, ProcessTable
from quantry_deploy.observations import PullState

LOADING = "import time; time.sleep(60)"
"""An engine that has yet to listen."""

ORPHAN = f"import os; os.fork() and os._exit(0); {LOADING}"
"""A leader that ends, and a process of it that does not."""


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[ProcessPool]:
    made = ProcessPool(tmp_path)
    yield made
    await made.close()


@pytest.fixture
def before(pool: ProcessPool) -> Iterator[ProcessTable]:
    """The processes of the controller before, in the same directory: no record of the one under test tells of them."""
    table = ProcessTable(pool.settings.deploy_dir.resolve())
    yield table
    table.end_all(within_s=5)


def spawn(before: ProcessTable, log_path: Path, replica_id: str, code: str, port: int) -> EngineProcess:
    command = [sys.executable, "-S", "-c", code]
    return before.spawn(replica_id, f"http://127.0.0.1:{port}", command, {"PATH": os.defpath}, log_path)


async def test_no_port_is_given_that_an_engine_has_yet_to_listen_on(
    pool: ProcessPool, before: ProcessTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    monkeypatch.setattr(processes, "LISTENING_PORTS", range(port, port + 1))
    version = pool.version()
    release = pool.release(version)
    spawn(before, pool.folder / "before.log", "rep_before", LOADING, port)
    with pytest.raises(OSError, match=r"no port of .* is free"):
        await pool.started(version, release)


async def test_two_starts_at_once_are_one(pool: ProcessPool) -> None:
    version = pool.version()
    release = pool.release(version)
    replica = await pool.started(version, release)
    await pool.driver.kill(replica)
    first, second = await asyncio.gather(*(pool.started_again(version, release, replica) for _ in range(2)))
    assert first == second
    assert await pool.driver.running() == {replica.id: {first.pid}}


async def test_what_a_leader_left_behind_ends_before_another_starts(pool: ProcessPool, before: ProcessTable) -> None:
    version = pool.version()
    release = pool.release(version)
    replica = await pool.started(version, release)
    await pool.driver.kill(replica)
    leader = spawn(before, pool.folder / "before.log", replica.id, ORPHAN, free_port())

    async def is_without_leader() -> bool:
        return before.leader(replica.id) is None

    await until(is_without_leader)
    (left,) = dict(await pool.driver.running())[replica.id]
    assert left != leader.pid
    assert await pool.pulled(version, release) is PullState.DONE
    after = await pool.started_again(version, release, replica)
    assert await pool.driver.running() == {replica.id: {after.pid}}
