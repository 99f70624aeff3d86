"""14. One of three replicas is killed, again and again, while fifty clients stream; then one of them breaks off, drops, hangs."""

from __future__ import annotations

import random
import signal
import time
from typing import Any, NamedTuple

from chaos.platform import Chaos, wait_until
from chaos.processes import send
from chaos.result import Result
from chaos.serving import behave, deployed, ready, route, stop, version_of
from chaos.streams import Ending, Streams, streaming
from quantry_core.rollouts import Replica

NAME = "killed replicas"
DEPLOYMENT, VERSIONS = "ophelia", ("killed-one", "killed-two")
NUM_REPLICAS = 3
MAX_SILENCE_S = 2.0
"""Between a kill and the error event of a stream that it broke."""

MAX_EJECTION_S = 5.0
BACK_TIMEOUT_S = 90.0
KILLS_PER_RELEASE = 4
"""A replica that died often is started again later and later; a new release is counted from zero."""

FAILURES: dict[str, dict[str, Any]] = {
    "cuts": {"cut_share": 1.0},
    "drops": {"drop_share": 1.0},
}
"""What else an engine does that its process survives: 200 and then cut; taken, and the connection closed."""

MAX_TRIALS = 4
"""Requests that a failing replica may break in the seconds after its ejection: it is tried again, with one at a time."""


class Counts(NamedTuple):
    kills: int
    streams: int
    failures: tuple[str, ...] = tuple(FAILURES)


FULL = Counts(kills=20, streams=50)
SHORT = Counts(kills=2, streams=12, failures=("cuts",))


class Seen(NamedTuple):
    """What was measured."""

    ejected_s: list[float]
    """From each kill until the replica was out of the routes."""

    silent_s: list[float]
    """From each kill until the error event of each stream that it broke."""

    broken: dict[str, tuple[int, int]]
    """Requests that each failure broke: of those sent in the first MAX_EJECTION_S seconds, and of those sent in the next."""


def run(chaos: Chaos, seed: int, counts: Counts) -> Result:
    """Kills, looks how long the dead replica stays in the routes, and waits until three are back; then the failures in turn."""
    result = Result(14, NAME, seed)
    drawn = random.Random(seed)
    versions = [version_of(chaos, name) for name in VERSIONS]
    seen = Seen([], [], {})
    deployed(chaos, DEPLOYMENT, versions[0], replicas=NUM_REPLICAS)
    try:
        with streaming(chaos, DEPLOYMENT, counts.streams) as streams:
            time.sleep(2)
            for number in range(counts.kills):
                if number and number % KILLS_PER_RELEASE == 0:
                    deployed(chaos, DEPLOYMENT, versions[number // KILLS_PER_RELEASE % 2], replicas=NUM_REPLICAS)
                _kill_one(chaos, result, drawn, seen, streams)
            killed = streams.counts()
            for name in counts.failures:
                seen.broken[name] = _failing(chaos, streams, drawn, name)
    finally:
        stop(chaos, DEPLOYMENT)
    _judge(result, streams, killed, seen)
    result.done = (
        f"{counts.kills} kills of one of {NUM_REPLICAS} replicas under {counts.streams} streams; then {', '.join(counts.failures)}"
    )
    return result


def _judge(result: Result, streams: Streams, killed: dict[str, int], seen: Seen) -> None:
    told_s, ejected_s = max(seen.silent_s, default=0.0), max(seen.ejected_s)
    result.figures = {
        "requests": sum(killed.values()),
        "broken_and_told": killed[Ending.TOLD],
        "cut": streams.counts()[Ending.CUT],
        "refused": streams.counts()[Ending.REFUSED],
        "told_after_s": told_s,
        "ejected_after_s": ejected_s,
        "then_failing": {name: f"{early} broken, then {late}" for name, (early, late) in seen.broken.items()},
    }
    result.expect(killed[Ending.DONE] > 0, "nothing was answered")
    for ending, what in ((Ending.CUT, "were cut without a word"), (Ending.REFUSED, "were refused instead of retried")):
        found = streams.of(ending)
        result.expect(not found, f"{len(found)} requests {what}: {streams.examples(ending)}")
    without = [one for one in streams.of(Ending.TOLD) if not one.last_event_s]
    result.expect(not without, f"{len(without)} requests were told of an error before their first byte: {without[:2]}")
    result.expect(told_s <= MAX_SILENCE_S, f"an error was told only after {told_s:.1f} s")
    result.expect(ejected_s <= MAX_EJECTION_S, f"a dead replica stayed in the routes for {ejected_s:.1f} s")
    for name, (_, late) in seen.broken.items():
        result.expect(late <= MAX_TRIALS, f"{name}: {late} requests were broken {MAX_EJECTION_S:.0f} s after the replica began to fail")


def _kill_one(chaos: Chaos, result: Result, drawn: random.Random, seen: Seen, streams: Streams) -> None:
    """Kills a replica, waits until it is out of the routes and all are back."""
    if not wait_until(lambda: len(ready(chaos, DEPLOYMENT)) == NUM_REPLICAS, BACK_TIMEOUT_S):
        raise TimeoutError(f"there are not {NUM_REPLICAS} ready replicas after {BACK_TIMEOUT_S:.0f} s")
    victim = drawn.choice(ready(chaos, DEPLOYMENT))
    struck_s = time.monotonic()
    result.expect(send(victim.pid or 0, signal.SIGKILL), f"replica {victim.id} had gone already")
    wait_until(lambda: not _is_routed(chaos, victim), BACK_TIMEOUT_S, poll_s=0.05)
    seen.ejected_s.append(time.monotonic() - struck_s)
    if not wait_until(lambda: len(ready(chaos, DEPLOYMENT)) == NUM_REPLICAS, BACK_TIMEOUT_S):
        raise TimeoutError(f"the killed replica was not back after {BACK_TIMEOUT_S:.0f} s")
    seen.silent_s.extend(one.ended_s - max(struck_s, one.sent_s) for one in streams.of(Ending.TOLD) if one.ended_s >= struck_s)


def _is_routed(chaos: Chaos, replica: Replica) -> bool:
    found = route(chaos, DEPLOYMENT)
    return found is not None and replica.url in {one.url for one in found.replicas}


def _failing(chaos: Chaos, streams: Streams, drawn: random.Random, name: str) -> tuple[int, int]:
    """Has one replica fail in its way for a while; returns how many requests that broke at first, and later."""
    victim = drawn.choice(ready(chaos, DEPLOYMENT))
    since = len(streams.asked)
    struck_s = time.monotonic()
    behave(victim, **FAILURES[name])
    time.sleep(2 * MAX_EJECTION_S)
    behave(victim, **dict.fromkeys(FAILURES[name], 0.0))
    time.sleep(MAX_EJECTION_S)
    broken = [one.sent_s - struck_s for one in streams.of(Ending.TOLD, since=since)]
    return sum(sent_s <= MAX_EJECTION_S for sent_s in broken), sum(sent_s > MAX_EJECTION_S for sent_s in broken)
