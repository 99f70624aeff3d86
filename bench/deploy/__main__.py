"""``python -m bench.deploy``: prints the table and writes bench/results/deploy.json and .md. Takes about a quarter of an hour.

Starts are measured in turns, the platform's and a bare one, of the same checkpoint with the same flags on the same machine, the stack
idle beside both. Rollbacks are seen by clients that ask which release answered them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import httpx

from bench.child import ml_versions
from bench.embedded import Measured, embedded_stack
from bench.report import Row, middle, publish, row, versions
from bench.serving.checkpoints import prompts
from bench.serving.clients import Clients, Load, asking
from bench.serving.engine import HERE, START_TIMEOUT_S, Where, bare_engine
from bench.serving.platform import DEPLOYMENT, deploy, make_versions, only_current, promoted, stop
from quantry_core.rollouts import Deployment

NUM_STARTS = 3
NUM_ROLLBACKS = 5
REQUESTS_PER_S = 20.0
MAX_ROLLBACK_S = 1.0
SETTLE_S = 5.0
"""Streams of requests before and after each rollback."""


class Rollback(NamedTuple):
    """One, as clients saw it. Seconds."""

    call_s: float
    """Until the API had answered."""

    first_s: float
    """From the call to the first answer of the release that was rolled back to, to a request that was sent after the call."""

    last_s: float
    """From the call until the last request was sent that the release before still answered."""

    num_requests: int
    num_failed: int


def main(arguments: Sequence[str] | None = None, where: Where = HERE) -> int:
    """Measures starts and rollbacks; returns 1 if a request failed or a rollback took a second."""
    parser = argparse.ArgumentParser(prog="bench.deploy", description=__doc__)
    parser.add_argument("--starts", type=int, default=NUM_STARTS)
    parser.add_argument("--rollbacks", type=int, default=NUM_ROLLBACKS)
    options = parser.parse_args(arguments)
    with embedded_stack(where.settings) as measured:
        made = make_versions(measured)
        folder = measured.scratch / "exported"
        measured.client.versions.export(made.candidate, folder)
        log = measured.scratch / "bare.log"
        # Once each before anything is counted: the page cache, the bytecode, the pulled files.
        _bare_s(folder, log, where)
        _platform_s(measured, made.candidate, "first")
        bare_s, platform_s = [], []
        for number in range(options.starts):
            bare_s.append(_bare_s(folder, log, where))
            platform_s.append(_platform_s(measured, made.candidate, f"start-{number + 1}"))
            print(f"start {number + 1}: bare {bare_s[-1]:.1f} s, platform {platform_s[-1]:.1f} s", flush=True)
        rollbacks = _rollbacks(measured, made.stable, made.candidate, options.rollbacks)
    details = {"bare_s": bare_s, "platform_s": platform_s, "rollbacks": [one._asdict() for one in rollbacks]}
    libraries = versions("aiohttp", "fastapi") | ml_versions("torch")
    if where.is_written:
        rows = _rows(bare_s, platform_s, rollbacks)
        publish(f"{where.folder}deploy", "From a deploy to a served model, and back", rows, libraries=libraries, details=details)
    too_slow = [one for one in rollbacks if max(one.first_s, one.last_s) >= MAX_ROLLBACK_S]
    return 1 if too_slow or any(one.num_failed for one in rollbacks) else 0


def _bare_s(folder: Path, log: Path, where: Where) -> float:
    """Returns the seconds from a bare engine's start to its first token."""
    with bare_engine(folder, DEPLOYMENT, log, where) as engine:
        return engine.start_s


def _platform_s(measured: Measured, version: str, deployment: str) -> float:
    """Returns the seconds from a deploy's request to the first answer through the gateway. The deployment is stopped afterwards."""
    began_s = time.monotonic()
    deploy(measured, version, deployment=deployment)
    body = {"model": deployment, "prompt": "The", "max_tokens": 1, "temperature": 0}
    with httpx.Client(base_url=measured.url, headers={"Authorization": f"Bearer {measured.api_key}"}, timeout=60, trust_env=False) as http:
        while (answer := http.post("/v1/completions", json=body)).status_code != 200:
            if time.monotonic() - began_s > START_TIMEOUT_S:
                raise TimeoutError(f"{deployment} does not answer within {START_TIMEOUT_S:.0f} s: {answer.status_code} {answer.text[:500]}")
            time.sleep(0.1)
    taken_s = time.monotonic() - began_s
    stop(measured, deployment)
    return taken_s


def _rollbacks(measured: Measured, stable: str, candidate: str, num: int) -> list[Rollback]:
    """Returns what clients saw of rollbacks to the release before, which is warm."""
    promoted(measured, stable)
    found = []
    load = Load(measured.url, measured.api_key, DEPLOYMENT, REQUESTS_PER_S, prompts(60), max_tokens=4)
    for number in range(num):
        promoted(measured, candidate, watch_s=3600)
        with asking(load) as clients:
            time.sleep(SETTLE_S)
            since = len(clients.asked)
            called_s = time.monotonic()
            deployment = measured.client.deployments.rollback(DEPLOYMENT)
            answered_s = time.monotonic()
            time.sleep(SETTLE_S)
        found.append(_seen(clients, since, called_s, answered_s, deployment))
        print(f"rollback {number + 1}: {found[-1]}", flush=True)
        only_current(measured)
    return found


def _seen(clients: Clients, since: int, called_s: float, answered_s: float, deployment: Deployment) -> Rollback:
    release = deployment.current_release
    back_to = str(release.number) if release is not None else ""
    later = clients.ended(since=since)
    first_s = min((one.ended_s for one in later if one.release == back_to), default=float("inf"))
    last_s = max((one.sent_s for one in later if one.release not in {back_to, ""}), default=called_s)
    ended = clients.ended()
    return Rollback(answered_s - called_s, first_s - called_s, last_s - called_s, len(ended), len(clients.failed()))


def _rows(bare_s: Sequence[float], platform_s: Sequence[float], rollbacks: Sequence[Rollback]) -> list[Row]:
    floor = "a bare vLLM start of the same checkpoint with the same flags, to its first token"
    bound = "the engine; beside it the claim of the rollout, the files' digests, and four looks a second"
    rows = [row("from a deploy to the first answer", middle(platform_s), middle(bare_s), "s", goal="<= 1.05", floor=floor, bound=bound)]
    for name, values in (
        ("first answer of the release rolled back to", [one.first_s for one in rollbacks]),
        ("last request that the other release got", [one.last_s for one in rollbacks]),
    ):
        for which, value in (("median", middle(values)), ("slowest", max(values))):
            title = f"warm rollback, {name}, {which} of {len(values)}"
            bound = "one transaction, the gateway's poll that it ends, and an answer of four tokens"
            rows.append(row(title, value, MAX_ROLLBACK_S, "s", goal="< 1", floor="one second after the call", bound=bound))
    num_failed, num_requests = sum(one.num_failed for one in rollbacks), sum(one.num_requests for one in rollbacks)
    rows.append(row("failed client requests around rollbacks", num_failed, num_requests, "", goal="0", floor="all of them", bound="-"))
    return rows


if __name__ == "__main__":
    sys.exit(main())
