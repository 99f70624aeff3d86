"""3. Redis is killed again and again, and flushed once, with a hundred jobs queued."""

from __future__ import annotations

import random
import signal
import time
from typing import NamedTuple

from redis import Redis

from chaos.platform import Chaos, wait_until
from chaos.processes import family_of, send, wait_for_part
from chaos.proof import tally
from chaos.result import Result

NAME = "redis away"
MAX_SILENCE_S = 30.0
DRAIN_TIMEOUT_S = 300.0
NUM_CLAIMS = 3
"""So many claims after each blow: one might be a straggler's."""


class Counts(NamedTuple):
    num_kills: int
    num_queued: int
    job_ms: int


FULL = Counts(num_kills=20, num_queued=100, job_ms=2000)
SHORT = Counts(num_kills=2, num_queued=20, job_ms=1000)


def run(chaos: Chaos, seed: int, counts: Counts) -> Result:
    """Kills Redis ``num_kills`` times, the last time it is flushed instead, and waits for fresh claims each time.

    A slot that runs jobs asks for the next one by itself. So each blow also kills the worker's pool processes: what takes
    their place begins work only when a message reaches it through the Redis that came back.
    """
    result = Result(3, NAME, seed)
    draw = random.Random(seed)
    job_ids: list[str] = []
    silences_s: list[float] = []
    least_queued = counts.num_queued * 2
    blows = ["kill"] * counts.num_kills
    blows.insert(draw.randrange(counts.num_kills + 1), "flush")
    for blow in blows:
        time.sleep(draw.random())
        num_missing = counts.num_queued - _num_queued(chaos)
        if num_missing > 0:
            # Some more, because jobs are taken up while these are submitted.
            job_ids += chaos.submit(num_missing + counts.num_queued // 2, counts.job_ms)
        least_queued = min(least_queued, _num_queued(chaos))
        pool = family_of(chaos.program("worker").pid).pool
        if blow == "kill":
            redis = chaos.program("redis").pid
            send(redis, signal.SIGKILL)
        for pid in pool:
            send(pid, signal.SIGKILL)
        struck_at = time.monotonic()
        before = _num_claims(chaos, job_ids)
        if blow == "kill":
            wait_for_part(chaos, "redis", redis)
        else:
            with Redis.from_url(chaos.broker_url) as client:
                client.flushall()
        if not _has_claims(chaos, job_ids, before + NUM_CLAIMS):
            result.problems.append(f"no work was taken up within {MAX_SILENCE_S:.0f} s of {blow} {len(silences_s) + 1}")
            break
        silences_s.append(time.monotonic() - struck_at)
    chaos.wait_until_ended(job_ids, DRAIN_TIMEOUT_S)
    seen = tally(chaos, job_ids)
    result.done = (
        f"Redis killed {counts.num_kills} times and flushed once with {counts.num_queued} jobs queued, the worker's pool processes with it"
    )
    result.figures = {
        "blows": len(silences_s),
        "least_queued": least_queued,
        "longest_silence_s": max(silences_s, default=0.0),
        "median_silence_s": sorted(silences_s)[len(silences_s) // 2] if silences_s else 0.0,
        "lost": seen.num_jobs - seen.num_terminal,
        **seen.figures(),
    }
    result.expect(least_queued >= counts.num_queued, f"once only {least_queued} jobs were queued when it was struck")
    result.expect(seen.num_terminal == seen.num_jobs, f"{seen.num_jobs - seen.num_terminal} jobs were lost")
    result.expect(set(seen.failures) <= {"poison"}, f"there are failures that are no poison: {seen.examples}")
    result.expect(seen.num_double_successes == 0, f"{seen.num_double_successes} jobs succeeded twice")
    return result


def _has_claims(chaos: Chaos, job_ids: list[str], number: int) -> bool:
    """Returns whether so many claims have been made of the jobs before the silence was too long."""
    return wait_until(lambda: _num_claims(chaos, job_ids) >= number, MAX_SILENCE_S)


def _num_queued(chaos: Chaos) -> int:
    return int(chaos.rows("select count(*) from jobs where status = 'queued'")[0][0])


def _num_claims(chaos: Chaos, job_ids: list[str]) -> int:
    query = "select coalesce(sum(attempt), 0) from jobs where id = any(%s)"
    return int(chaos.rows(query, job_ids)[0][0])
