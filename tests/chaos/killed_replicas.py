"""14. One of three replicas is killed, again and again, while fifty clients stream; then one at a time fails and lives on."""

from __future__ import annotations

import random
import signal
import time
from typing import NamedTuple

from chaos.platform import Chaos, wait_until
from chaos.processes import send
from chaos.result import Result
from chaos.serving import behave, deployed, num_asked, ready, route, stop, version_of
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


class Failure(NamedTuple):
    """What else an engine does that its process survives."""

    behaviour: dict[str, float]
    breaks_streams: bool = False
    """Whether it fails only after the first byte, so that clients must be told. Of all else they notice nothing."""

    is_left_out: bool = True
    """Whether the gateway asks it no more."""


FAILURES: dict[str, Failure] = {
    "cuts": Failure({"cut_share": 1.0}, breaks_streams=True),
    "drops": Failure({"drop_share": 1.0}),
    "hangs": Failure({"hang_share": 1.0}),
    "slow": Failure({"ttft_s": 1.0}, is_left_out=False),
}
"""200 and then cut; taken, and the connection closed; taken, and never answered; a first token after half of the whole answer's time."""

MAX_SLOW_SHARE = 0.3
"""Of all requests, while a replica is slow: as many have to be under way at each, so it gets less than its third."""

MAX_TRIALS = 4
"""Requests that a failing replica may get in the seconds after its ejection: it is tried again, with one at a time."""


class Counts(NamedTuple):
    kills: int
    streams: int
    failures: tuple[str, ...] = tuple(FAILURES)


FULL = Counts(kills=20, streams=50)
SHORT = Counts(kills=2, streams=12, failures=("cuts",))


class Failing(NamedTuple):
    """What a replica that fails all it is asked does to clients."""

    num_early: int
    """Requests that it got in the first MAX_EJECTION_S seconds."""

    num_late: int
    """Requests that it got in the next."""

    num_told: int
    """Streams that ended with an error event meanwhile and afterwards."""

    share: float
    """Of all requests meanwhile, those that it got."""


class Seen(NamedTuple):
    """What was measured."""

    ejected_s: list[float]
    """From each kill until the replica was out of the routes."""

    silent_s: list[float]
    """From each kill until the error event of each stream that it broke."""

    failing: dict[str, Failing]
    """By the name of the failure."""


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
                seen.failing[name] = _failing(chaos, streams, drawn, name)
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
        "then_failing": {
            name: f"{one.num_early} asked, then {one.num_late}, {one.share:.0%} of all; {one.num_told} told"
            for name, one in seen.failing.items()
        },
    }
    result.expect(killed[Ending.DONE] > 0, "nothing was answered")
    result.expect(killed[Ending.TOLD] > 0, "no stream was under way at a replica when it was killed")
    for ending, what in ((Ending.CUT, "were cut without a word"), (Ending.REFUSED, "were refused instead of retried")):
        found = streams.of(ending)
        result.expect(not found, f"{len(found)} requests {what}: {streams.examples(ending)}")
    without = [one for one in streams.of(Ending.TOLD) if not one.last_event_s]
    result.expect(not without, f"{len(without)} requests were told of an error before their first byte: {without[:2]}")
    result.expect(told_s <= MAX_SILENCE_S, f"an error was told only after {told_s:.1f} s")
    result.expect(ejected_s <= MAX_EJECTION_S, f"a dead replica stayed in the routes for {ejected_s:.1f} s")
    for name, one in seen.failing.items():
        _judge_failing(result, name, one)


def _judge_failing(result: Result, name: str, one: Failing) -> None:
    failure = FAILURES[name]
    result.expect(one.num_early > 0, f"{name}: the failing replica was asked nothing")
    result.expect(
        failure.breaks_streams or not one.num_told, f"{name}: {one.num_told} requests were told of an error instead of asked again"
    )
    late = f"{name}: {one.num_late} requests came to the replica {MAX_EJECTION_S:.0f} s after it began to fail"
    result.expect(not failure.is_left_out or one.num_late <= MAX_TRIALS, late)
    much = f"{name}: the replica got {one.share:.0%} of all requests"
    result.expect(failure.is_left_out or one.share <= MAX_SLOW_SHARE, much)


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


def _failing(chaos: Chaos, streams: Streams, drawn: random.Random, name: str) -> Failing:
    """Has one replica fail in its way for a while."""
    victim = drawn.choice(ready(chaos, DEPLOYMENT))
    since = len(streams.asked)
    behave(victim, **FAILURES[name].behaviour)
    counts = [num_asked(victim)]
    for _ in range(2):
        time.sleep(MAX_EJECTION_S)
        counts.append(num_asked(victim))
    share = (counts[2] - counts[0]) / max(1, len(streams.asked) - since)
    behave(victim, **dict.fromkeys(FAILURES[name].behaviour, 0.0))
    time.sleep(MAX_EJECTION_S)
    return Failing(counts[1] - counts[0], counts[2] - counts[1], len(streams.of(Ending.TOLD, since=since)), share)
