"""15. The controller is killed at every edge of a rollout, of every strategy: it converges all the same, and promotes nothing unseen."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from chaos.kill_points import ARMED_VARIABLE, CONTROLLER_MOMENTS, controller_point
from chaos.platform import Chaos, wait_until
from chaos.processes import send, wait_for_part, with_tests
from chaos.result import Result
from chaos.serving import behave, deploy, deployed, ready, stop, version_of
from chaos.streams import Ending, Streams, streaming
from quantry_core.rollouts import Rollout, RolloutReason, RolloutState
from quantry_core.verdicts import Verdict

NAME = "killed controller"
DEPLOYMENT = "yorick"
QUICK: dict[str, Any] = {"ttft_s": 0.02, "gap_s": 0.005}
SLOW_S = 1.0
SOUND, OTHER, SLOW, WRONG, CRASHING = "edge-sound", "edge-other", "edge-slow", "edge-wrong", "edge-crashing"
BEHAVIOURS: dict[str, dict[str, Any]] = {
    SOUND: QUICK,
    OTHER: QUICK,
    SLOW: QUICK | {"ttft_s": SLOW_S},
    WRONG: QUICK | {"wrong_share": 0.9},
    CRASHING: {"crashes_at_start": True},
}
NUM_CLIENTS = 4
FIRE_TIMEOUT_S = 60.0
END_TIMEOUT_S = 120.0
UNSEEN_S = 12.0
"""How long a candidate that nobody asks anything is watched."""

ANALYSIS = {"rules": [{"rule": "latency_limit", "metric": "e2e", "quantile": 0.5, "max_s": 0.5}], "min_requests": 10}
CANARY: dict[str, Any] = {"name": "canary", "steps": [{"percent": 50}, {"percent": 100}], "analysis": ANALYSIS}
# By the prompt, of which no two are the same: one time in sixteen none of so few users is the candidate's.
AB: dict[str, Any] = {"name": "ab", "percent": 50, "sticky_by": "hash", "analysis": ANALYSIS}
SHADOW: dict[str, Any] = {"name": "shadow", "percent": 100, "max_disagreement": 0.5, "on_pass": "promote"}
AT_ONCE: dict[str, Any] = {"name": "canary", "steps": [{"percent": 100, "analysis": False}], "analysis": ANALYSIS}

BEGIN, STAGE, PAUSE, JUDGE, PROMOTE = "begin_rollout", "stage_rollout", "pause_rollout", "judge_rollout", "promote_rollout"
FAIL, END_WATCH, UNDO = "fail_rollout", "end_watch", "undo_promotion"


class Play(NamedTuple):
    """One rollout, and the edges on its way at which the controller dies."""

    strategy: dict[str, Any]
    candidate: str | None
    """None: a sound one, whichever does not serve."""

    state: RolloutState
    calls: tuple[str, ...]
    watch_s: float = 0.0
    is_judged: bool = False
    """Whether only a verdict of pass, of what was seen, may promote it."""


PLAYS: tuple[Play, ...] = (
    Play({"name": "immediate"}, None, RolloutState.PROMOTED, (BEGIN, PROMOTE)),
    Play({"name": "immediate"}, CRASHING, RolloutState.ROLLED_BACK, (FAIL,)),
    Play({"name": "blue_green", "pause": True}, None, RolloutState.PROMOTED, (PAUSE, PROMOTE)),
    Play(CANARY, None, RolloutState.PROMOTED, (BEGIN, STAGE, JUDGE, PROMOTE), is_judged=True),
    Play(CANARY, SLOW, RolloutState.ROLLED_BACK, (FAIL,)),
    Play(AB, None, RolloutState.PROMOTED, (STAGE, JUDGE, PROMOTE), is_judged=True),
    Play(AB, SLOW, RolloutState.ROLLED_BACK, (FAIL,)),
    Play(SHADOW, None, RolloutState.PROMOTED, (STAGE, JUDGE, PROMOTE), is_judged=True),
    Play(SHADOW, WRONG, RolloutState.ROLLED_BACK, (FAIL,)),
    Play({"name": "immediate"}, None, RolloutState.PROMOTED, (END_WATCH,), watch_s=3.0),
    Play(AT_ONCE, None, RolloutState.PROMOTED, (UNDO,), watch_s=300.0),
)
UNSEEN: tuple[dict[str, Any], ...] = (
    CANARY | {"step_timeout_s": 4.0},
    AB | {"deadline_s": 4.0},
    SHADOW | {"deadline_s": 4.0},
)
"""Strategies that need a verdict, and get no traffic to make one of."""


class Counts(NamedTuple):
    edges: tuple[tuple[int, str], ...]
    """Plays by their place in PLAYS, and a call of each."""

    moments: tuple[str, ...]
    unseen: int
    """Of UNSEEN."""

    kills_unseen: int


EVERY_EDGE = tuple((number, call) for number, play in enumerate(PLAYS) for call in play.calls)
FULL = Counts(edges=EVERY_EDGE, moments=CONTROLLER_MOMENTS, unseen=len(UNSEEN), kills_unseen=3)
SHORT = Counts(edges=((3, PROMOTE), (4, FAIL)), moments=CONTROLLER_MOMENTS[-1:], unseen=1, kills_unseen=1)


def run(chaos: Chaos, seed: int, counts: Counts) -> Result:
    """Plays each rollout with the controller dying once on its way, under a few streams; then those that nobody asks anything."""
    result = Result(15, NAME, seed)
    drawn = random.Random(seed)
    versions = {name: version_of(chaos, name, **behaviour) for name, behaviour in BEHAVIOURS.items()}
    deployed(chaos, DEPLOYMENT, versions[SOUND])
    num_fired = 0
    try:
        with _killable(chaos):
            with streaming(chaos, DEPLOYMENT, NUM_CLIENTS) as streams:
                for number, call in counts.edges:
                    for moment in counts.moments:
                        num_fired += _played(chaos, result, versions, PLAYS[number], controller_point(call, moment))
            outcomes = []
            for strategy in UNSEEN[: counts.unseen]:
                rollout = deploy(chaos, DEPLOYMENT, _not_serving(chaos, versions), strategy=strategy, watch_s=0)
                outcomes.append(_unseen(chaos, result, rollout, drawn, counts.kills_unseen))
    finally:
        stop(chaos, DEPLOYMENT)
    _judge_streams(result, streams)
    num_kills = len(counts.edges) * len(counts.moments)
    result.done = (
        f"SIGKILL of the controller at {num_kills} moments of {len(counts.edges)} edges, and {len(outcomes)} rollouts without data"
    )
    result.figures = {
        "edges": len(counts.edges),
        "kills": num_fired,
        "requests": len(streams.ended()),
        "without_data": " ".join(outcomes),
    }
    return result


def _judge_streams(result: Result, streams: Streams) -> None:
    ended = streams.counts()
    result.expect(ended[Ending.DONE] > 0, "nothing was answered")
    failed = sum(ended.values()) - ended[Ending.DONE]
    result.expect(failed == 0, f"{failed} requests failed: {streams.examples(Ending.REFUSED, Ending.TOLD, Ending.CUT)}")


def _played(chaos: Chaos, result: Result, versions: dict[str, str], play: Play, point: str) -> bool:
    """Plays one rollout to its end; returns whether the point fired. What is not as it must be is noted."""
    where = f"{play.strategy['name']} of {play.candidate or 'a sound candidate'}, {point}"
    candidate = versions[play.candidate] if play.candidate else _not_serving(chaos, versions)
    fired = chaos.stub.armed.with_name(chaos.stub.armed.name + ".fired")
    fired.unlink(missing_ok=True)
    chaos.stub.armed.write_text(point)
    rollout = deploy(chaos, DEPLOYMENT, candidate, strategy=play.strategy, watch_s=play.watch_s, ready_timeout_s=60)
    if not _converges(chaos, rollout, play):
        now = chaos.client.rollouts.get(rollout.id)
        result.problems.append(f"{where}: it is {now.state} at {now.percent} percent, {now.reason}: {now.message}")
        chaos.client.rollouts.abort(rollout.id)
    has_fired = wait_until(fired.exists, FIRE_TIMEOUT_S)
    result.expect(has_fired, f"{where}: nobody came by there")
    chaos.stub.armed.unlink(missing_ok=True)
    ended = chaos.client.rollouts.get(rollout.id)
    if play.is_judged:
        result.expect(_was_seen(ended), f"{where}: it was promoted without a verdict of anything: {ended.judgement}")
    settled = wait_until(lambda: _is_settled(chaos), END_TIMEOUT_S)
    result.expect(settled, f"{where}: afterwards {chaos.client.deployments.get(DEPLOYMENT)}")
    return has_fired


def _converges(chaos: Chaos, rollout: Rollout, play: Play) -> bool:
    """Returns whether a rollout ends as it must; resumes it where it waits for a person, and spoils it where its watch is to fail."""

    def has_ended() -> bool:
        now = chaos.client.rollouts.get(rollout.id)
        if now.state is RolloutState.PAUSED and now.reason is RolloutReason.STEP:
            # Once the controller has been killed there, or it would never come by.
            chaos.client.rollouts.resume(rollout.id)
        return now.state is play.state

    if not wait_until(has_ended, END_TIMEOUT_S):
        return False
    if UNDO not in play.calls:
        return True
    for replica in ready(chaos, DEPLOYMENT):
        if replica.release_id == rollout.to_release_id:
            behave(replica, ttft_s=SLOW_S)
    return wait_until(lambda: _current(chaos) == rollout.from_release_id, END_TIMEOUT_S)


def _was_seen(rollout: Rollout) -> bool:
    judgement = rollout.judgement
    if judgement is None or judgement.verdict is not Verdict.PASS:
        return False
    return bool(judgement.findings) and all(one.num_candidate for one in judgement.findings)


def _is_settled(chaos: Chaos) -> bool:
    """Tells whether nothing moves any more and what is current serves."""
    deployment = chaos.client.deployments.get(DEPLOYMENT)
    current = deployment.current_release
    serving = {one.release_id for one in ready(chaos, DEPLOYMENT)}
    return deployment.active_rollout is None and current is not None and current.id in serving


def _current(chaos: Chaos) -> str | None:
    release = chaos.client.deployments.get(DEPLOYMENT).current_release
    return release.id if release is not None else None


def _not_serving(chaos: Chaos, versions: dict[str, str]) -> str:
    """Returns the sound version that is not the current one."""
    release = chaos.client.deployments.get(DEPLOYMENT).current_release
    return versions[OTHER if release is not None and release.version_ref == versions[SOUND] else SOUND]


def _unseen(chaos: Chaos, result: Result, rollout: Rollout, drawn: random.Random, num_kills: int) -> str:
    """Kills the controller at random times of a rollout that nobody asks anything; returns where it ended."""
    for _ in range(num_kills):
        time.sleep(UNSEEN_S / num_kills * drawn.random())
        pid = chaos.program("deploy").pid
        send(pid, signal.SIGKILL)
        wait_for_part(chaos, "deploy", pid)
    inconclusive = {RolloutState.PAUSED, RolloutState.ROLLED_BACK}
    wait_until(lambda: chaos.client.rollouts.get(rollout.id).state in {*inconclusive, RolloutState.PROMOTED}, END_TIMEOUT_S)
    time.sleep(UNSEEN_S / 4)
    now = chaos.client.rollouts.get(rollout.id)
    told = f"{now.strategy.name}: {now.state} ({now.reason})"
    result.expect(now.state in inconclusive and now.reason is RolloutReason.INCONCLUSIVE, f"without data {told}: {now.message}")
    if now.state is RolloutState.PAUSED:
        chaos.client.rollouts.abort(rollout.id)
    wait_until(lambda: _is_settled(chaos), END_TIMEOUT_S)
    return told


@contextmanager
def _killable(chaos: Chaos) -> Iterator[None]:
    """Has the stack run its controller through chaos.kill_points while the block runs. Its engines outlive it, as they do a crash."""
    original = chaos.launch_file("deploy")
    changed = with_tests(original)
    variables = {**changed.environment, ARMED_VARIABLE: str(chaos.stub.armed)}
    command = [original.command[0], "-m", "chaos.kill_points", "quantry_deploy"]
    chaos.stub.armed.unlink(missing_ok=True)
    _restart(chaos, changed.model_copy(update={"environment": variables, "command": command}).model_dump_json())
    try:
        yield
    finally:
        chaos.stub.armed.unlink(missing_ok=True)
        _restart(chaos, original.model_dump_json())


def _restart(chaos: Chaos, launch: str) -> None:
    chaos.files.launch_file("deploy").write_text(launch)
    pid = chaos.program("deploy").pid
    send(pid, signal.SIGKILL)
    wait_for_part(chaos, "deploy", pid)
