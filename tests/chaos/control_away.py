"""16. Everything but the gateway and the engines is down, and nobody who streams notices."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import httpx

from chaos.platform import Chaos, wait_until
from chaos.processes import send, wait_for_part
from chaos.result import Result
from chaos.serving import answered_by, answers, deployed, stop, version_of
from chaos.streams import Ending, streaming
from quantry_local.supervisor_rpc import ProgramState

NAME = "control plane away"
DEPLOYMENT, VERSION, NEXT = "horatio", "away-one", "away-two"
AWAY = ("dashboard", "deploy", "worker", "api", "registry", "s3", "redis", "postgres")
BACK_TIMEOUT_S = 60.0
LEARN_S = 5.0
"""A gateway asks an api that was away once a second at least; the rest is for a machine that is busy with starting everything."""


class Counts(NamedTuple):
    away_s: float
    restarted_s: float
    """Streams after the gateway itself was killed and came back, the rest still being away."""

    streams: int


FULL = Counts(away_s=300.0, restarted_s=30.0, streams=20)
SHORT = Counts(away_s=10.0, restarted_s=3.0, streams=10)


def run(chaos: Chaos, seed: int, counts: Counts) -> Result:
    """Streams while the parts are away, kills the gateway, streams again; then they come back and the next deploy is learnt."""
    result = Result(16, NAME, seed)
    first, following = version_of(chaos, VERSION), version_of(chaos, NEXT)
    with _engines_that_stay(chaos):
        deployed(chaos, DEPLOYMENT, first, replicas=2)
        try:
            with _away(chaos):
                with streaming(chaos, DEPLOYMENT, counts.streams) as streams:
                    time.sleep(counts.away_s)
                pid = chaos.program("gateway").pid
                send(pid, signal.SIGKILL)
                wait_for_part(chaos, "gateway", pid)
                is_back = wait_until(lambda: answers(chaos, DEPLOYMENT), BACK_TIMEOUT_S)
                with streaming(chaos, DEPLOYMENT, counts.streams) as again:
                    time.sleep(counts.restarted_s)
                too_early = chaos.rpc.running(AWAY)
            deployed(chaos, DEPLOYMENT, following, replicas=2)
            promoted_s = time.monotonic()
            is_learnt = wait_until(lambda: answered_by(chaos, DEPLOYMENT) == NEXT, LEARN_S)
            learnt_s = time.monotonic() - promoted_s
            with streaming(chaos, DEPLOYMENT, 2) as learnt:
                time.sleep(3)
        finally:
            stop(chaos, DEPLOYMENT)
    result.done = f"{len(AWAY)} parts down for {counts.away_s:.0f} s under {counts.streams} streams, then the gateway killed meanwhile"
    num = [sum(one.counts().values()) for one in (streams, again)]
    failed = [number - len(one.of(Ending.DONE)) for number, one in zip(num, (streams, again), strict=True)]
    result.figures = {
        "requests": num[0],
        "errors": failed[0],
        "after_restart": num[1],
        "errors_after_restart": failed[1],
        "learnt_s": round(learnt_s, 2),
    }
    result.expect(min(num) > 0, "nothing was asked")
    result.expect(not too_early, f"{too_early} ran again meanwhile")
    for one, number in zip((streams, again), failed, strict=True):
        result.expect(number == 0, f"{number} requests failed: {one.examples(Ending.REFUSED, Ending.TOLD, Ending.CUT)}")
    result.expect(is_back, "the restarted gateway did not serve from what it had kept")
    result.expect(is_learnt, f"the gateway still served the release before {LEARN_S:g} s after the promotion")
    served = {one.answered_by for one in learnt.of(Ending.DONE)}
    result.expect(served == {NEXT}, f"after everything was back {served} answered, not {NEXT}")
    return result


@contextmanager
def _away(chaos: Chaos) -> Iterator[None]:
    """Stops the parts while the block runs, and starts them again in the reverse order."""
    chaos.rpc.stop(AWAY)
    if not wait_until(lambda: not chaos.rpc.running(AWAY), BACK_TIMEOUT_S):
        raise TimeoutError(f"{chaos.rpc.running(AWAY)} do not stop")
    try:
        yield
    finally:
        for part in reversed(AWAY):
            chaos.rpc.start(part)
            wait_until(partial(_runs, chaos, part), BACK_TIMEOUT_S)
        if not wait_until(lambda: all(_is_well(chaos, part) for part in ("registry", "api", "deploy")), BACK_TIMEOUT_S):
            raise TimeoutError("not every service came back")


@contextmanager
def _engines_that_stay(chaos: Chaos) -> Iterator[None]:
    """Has the controller leave its engines alone when it ends, as it does on hosts where only it is replaced."""
    original = chaos.launch_file("deploy")
    variables = {**original.environment, "QUANTRY_STOP_REPLICAS_ON_EXIT": "false"}
    _restart(chaos, original.model_copy(update={"environment": variables}).model_dump_json())
    try:
        yield
    finally:
        _restart(chaos, original.model_dump_json())


def _restart(chaos: Chaos, launch: str) -> None:
    chaos.files.launch_file("deploy").write_text(launch)
    pid = chaos.program("deploy").pid
    send(pid, signal.SIGKILL)
    wait_for_part(chaos, "deploy", pid)
    wait_until(lambda: _is_well(chaos, "deploy"), BACK_TIMEOUT_S)


def _runs(chaos: Chaos, part: str) -> bool:
    return chaos.rpc.program(part).state is ProgramState.RUNNING


def _is_well(chaos: Chaos, part: str) -> bool:
    with chaos.http(part=part) as http:
        try:
            return http.get("/healthz").is_success
        except httpx.TransportError:
            return False
