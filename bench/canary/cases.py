"""The candidates: a sound one, and three that are bad in their own ways. A literal table, in the order in which they are tried."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.embedded import ROOT, Measured, free_port
from bench.gateway.processes import running
from bench.serving.engine import Where, bare_engine
from bench.serving.platform import DEPLOYMENT, Versions
from quantry_core.rollouts import ReplicaState, RolloutReason, RolloutState

DELAY_S = 2.0
ALIVE_S = 8.0
"""How long a crashing engine serves before it dies."""


@dataclass(frozen=True)
class Order:
    """What of a deploy job is the candidate's own."""

    version: str
    options: dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One candidate, and how its rollout must end."""

    name: str
    state: RolloutState
    reasons: frozenset[RolloutReason]
    named: str
    """What the reason's words must say."""

    begin: Callable[[Measured, Versions, Where], AbstractContextManager[Order]]
    is_streamed: bool = True
    """Whether half of the clients stream. What has begun to stream cannot be asked of another release when its engine dies."""


@contextmanager
def sound(_measured: Measured, versions: Versions, _where: Where) -> Iterator[Order]:
    """W4A16, as good as it gets. The release before stays warm, for the next case."""
    yield Order(versions.candidate, {"watch_s": 3600})


@contextmanager
def spoilt(_measured: Measured, versions: Versions, _where: Where) -> Iterator[Order]:
    """W4A16 with scales that are off: quick and without errors, and its answers are no words."""
    yield Order(versions.spoilt or "", {})


@contextmanager
def slow(measured: Measured, versions: Versions, where: Where) -> Iterator[Order]:
    """A real engine of the sound version behind a server that waits before each generation."""
    with ExitStack() as stack:
        folder = measured.scratch / "exported"
        measured.client.versions.export(versions.candidate, folder)
        engine = stack.enter_context(bare_engine(folder, DEPLOYMENT, measured.scratch / "slow-engine.log", where))
        port = free_port()
        command = [sys.executable, "-m", "bench.canary.slow_server", str(port), engine.url, str(DELAY_S)]
        log = measured.scratch / "slow-server.log"
        cores = os.sched_getaffinity(0)
        stack.enter_context(running(command, port, cores, log, environment={"PYTHONPATH": str(ROOT)}))
        yield Order(versions.candidate, {"servers": [f"http://127.0.0.1:{port}"]})


@contextmanager
def crashing(measured: Measured, versions: Versions, _where: Where) -> Iterator[Order]:
    """The sound version, whose engine is killed whenever it has served for some seconds."""
    is_over = threading.Event()
    killer = threading.Thread(target=_kill_candidates, args=(measured, is_over), daemon=True)
    killer.start()
    try:
        yield Order(versions.candidate, {})
    finally:
        is_over.set()
        killer.join(60)


def _kill_candidates(measured: Measured, is_over: threading.Event) -> None:
    served_since_s: dict[int, float] = {}
    while not is_over.wait(0.5):
        deployment = measured.client.deployments.get(DEPLOYMENT)
        rollout = deployment.active_rollout
        if rollout is None:
            continue
        for replica in deployment.replicas:
            if replica.release_id != rollout.to_release_id or replica.state is not ReplicaState.READY or replica.pid is None:
                continue
            since_s = served_since_s.setdefault(replica.pid, time.monotonic())
            if time.monotonic() - since_s >= ALIVE_S and _is_engine(replica.pid):
                os.kill(replica.pid, signal.SIGKILL)


def _is_engine(pid: int) -> bool:
    """Tells whether the process is still what the record says: an engine."""
    try:
        return b"vllm" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


CASES: tuple[Case, ...] = (
    Case("sound", RolloutState.PROMOTED, frozenset({RolloutReason.COMPLETED}), "", sound),
    Case("spoilt scales", RolloutState.ROLLED_BACK, frozenset({RolloutReason.VERDICT_FAILED}), "feedback_compared", spoilt),
    Case("slow", RolloutState.ROLLED_BACK, frozenset({RolloutReason.VERDICT_FAILED}), "latency_compared", slow),
    # Which of the two comes first depends on how long a real engine takes to start again.
    Case(
        "crashing",
        RolloutState.ROLLED_BACK,
        frozenset({RolloutReason.CRASH_LOOP, RolloutReason.NOT_READY}),
        "",
        crashing,
        is_streamed=False,
    ),
)
