"""5. Each wake-up message is delivered five times at once."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import NamedTuple

from chaos.platform import Chaos, wait_until
from chaos.processes import extra_worker
from chaos.proof import num_runs, tally
from chaos.result import Result
from quantry_api.wake import Waker
from quantry_core.jobs import CPU_QUEUE

NAME = "repeated wakes"
NUM_COPIES = 5
EXTRA_SLOTS = 4
TIMEOUT_S = 60.0


class Counts(NamedTuple):
    num_jobs: int


FULL = Counts(num_jobs=100)
SHORT = Counts(num_jobs=10)


def run(chaos: Chaos, seed: int, counts: Counts) -> Result:
    """Submits one job at a time to idle slots and wakes five of them at once, by the api's own sender."""
    result = Result(5, NAME, seed)
    job_ids: list[str] = []
    with extra_worker(chaos, "wakes", num_slots=EXTRA_SLOTS):
        num_sent = asyncio.run(_submit_and_wake(chaos, counts.num_jobs, job_ids))
        chaos.wait_until_ended(job_ids, TIMEOUT_S)
    seen = tally(chaos, job_ids)
    runs = Counter(num_runs(chaos, job_ids).values())
    attempts = chaos.rows("select count(*) from jobs where id = any(%s) and attempt <> 1", job_ids)[0][0]
    result.done = f"{NUM_COPIES} copies of the wake-up for each job delivered at once, beside the api's own, to 8 slots of two workers"
    result.figures = {"messages": num_sent, "run_once": runs[1], "run_otherwise": len(job_ids) - runs[1], **seen.figures()}
    result.expect(num_sent == NUM_COPIES * counts.num_jobs, f"only {num_sent} messages were taken by the broker")
    result.expect(runs == {1: counts.num_jobs}, f"jobs by number of runs: {dict(runs)}")
    result.expect(attempts == 0, f"{attempts} jobs have another number of attempts than one")
    result.expect(seen.num_succeeded == counts.num_jobs, f"only {seen.num_succeeded} of {counts.num_jobs} jobs succeeded: {seen.examples}")
    result.expect(seen.num_double_successes == 0, f"{seen.num_double_successes} jobs succeeded twice")
    return result


async def _submit_and_wake(chaos: Chaos, num_jobs: int, job_ids: list[str]) -> int:
    """Appends the jobs' ids; returns how many messages were sent."""
    # One sender each: a sender has one thread, and its messages would follow one another.
    wakers = [Waker(chaos.broker_url) for _ in range(NUM_COPIES)]
    num_sent = 0
    try:
        for _ in range(num_jobs):
            await asyncio.to_thread(wait_until, chaos.is_idle, TIMEOUT_S, poll_s=0.02)
            job_ids += await asyncio.to_thread(chaos.submit, 1, 100)
            num_sent += sum(await asyncio.gather(*(waker.wake(CPU_QUEUE) for waker in wakers)))
    finally:
        for waker in wakers:
            await asyncio.to_thread(waker.close)
    return num_sent
