"""13. A canary is rolled back at 10, 50 and 100 percent while a hundred clients stream."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from chaos.platform import Chaos, wait_until
from chaos.result import Result
from chaos.serving import deploy, deployed, stop, version_of, wait_for_rollout
from chaos.streams import Ending, Streams, streaming
from quantry_core.rollouts import RolloutState

NAME = "rolled back"
DEPLOYMENT, STABLE, CANDIDATE = "hamlet", "rolled-stable", "rolled-candidate"
EXPOSED_S = 1.5
"""How long the candidate has had its share before it is taken away."""

AFTER_S = 3.0
"""How long is watched afterwards."""

MAX_TRAFFIC_S = 2.0
"""After the answer to the rollback no request that is sent later may reach the candidate."""

STEP_TIMEOUT_S = 60.0


class Counts(NamedTuple):
    times: int
    """At each share."""

    streams: int
    min_requests: int
    percents: tuple[int, ...] = (10, 50, 100)


FULL = Counts(times=10, streams=100, min_requests=6000)
SHORT = Counts(times=1, streams=20, min_requests=120)


def run(chaos: Chaos, seed: int, counts: Counts) -> Result:
    """Begins a canary, lets it answer for a moment, rolls it back by one request, and looks at every request of every client."""
    result = Result(13, NAME, seed)
    stable, candidate = version_of(chaos, STABLE), version_of(chaos, CANDIDATE)
    deployed(chaos, DEPLOYMENT, stable, replicas=2)
    lasted_s, calls_s, num_exposed = [], [], 0
    try:
        with streaming(chaos, DEPLOYMENT, counts.streams) as streams:
            for _ in range(counts.times):
                for percent in counts.percents:
                    told = _roll_back_at(chaos, result, streams, candidate, percent)
                    lasted_s.append(told.lasted_s)
                    calls_s.append(told.call_s)
                    num_exposed += told.num_answered
            enough = wait_until(lambda: len(streams.ended()) >= counts.min_requests, STEP_TIMEOUT_S)
    finally:
        stop(chaos, DEPLOYMENT)
    ended = streams.counts()
    num = sum(ended.values())
    result.done = f"{len(lasted_s)} rollbacks at {', '.join(map(str, counts.percents))} percent under {counts.streams} streams"
    result.figures = {
        "requests": num,
        "failed": num - ended[Ending.DONE],
        "by_candidate": num_exposed,
        "last_candidate_s": max(lasted_s),
        "rollback_call_s": max(calls_s),
    }
    result.expect(enough, f"only {num} requests of at least {counts.min_requests}")
    result.expect(ended[Ending.DONE] == num, f"{ended}: {streams.examples(Ending.REFUSED, Ending.TOLD, Ending.CUT)}")
    result.expect(max(lasted_s) <= MAX_TRAFFIC_S, f"the candidate still got requests {max(lasted_s):.1f} s after the rollback")
    return result


class Told(NamedTuple):
    """One rollback."""

    call_s: float
    lasted_s: float
    """Between its answer and the last request that was sent and reached the candidate; 0 where none came later."""

    num_answered: int
    """Requests that the candidate answered before and after."""


def _roll_back_at(chaos: Chaos, result: Result, streams: Streams, candidate: str, percent: int) -> Told:
    rest = [] if percent == 100 else [{"percent": 100, "analysis": False}]
    steps: list[dict[str, Any]] = [{"percent": percent, "analysis": False, "pause": True}, *rest]
    since = len(streams.asked)
    rollout = deploy(chaos, DEPLOYMENT, candidate, strategy={"name": "canary", "steps": steps}, replicas=1)
    wait_for_rollout(chaos, rollout, lambda now: now.percent == percent, f"it does not get to {percent} percent", STEP_TIMEOUT_S)
    time.sleep(EXPOSED_S)
    began_s = time.monotonic()
    chaos.client.deployments.rollback(DEPLOYMENT)
    answered_s = time.monotonic()
    time.sleep(AFTER_S)
    ended = chaos.client.rollouts.get(rollout.id)
    result.expect(ended.state is RolloutState.ROLLED_BACK, f"at {percent} percent: the rollout is {ended.state}")
    sent_s = [one.sent_s for one in streams.asked[since:] if one.answered_by == CANDIDATE]
    result.expect(bool(sent_s), f"at {percent} percent: the candidate answered nobody")
    return Told(answered_s - began_s, max(0.0, max(sent_s, default=0.0) - answered_s), len(sent_s))
