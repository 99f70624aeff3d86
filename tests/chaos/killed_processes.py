"""1. Children and workers die by SIGKILL, one every few seconds, while jobs run."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from typing import NamedTuple

from chaos.platform import Chaos
from chaos.processes import Family, Replica, extra_worker, family_of, send
from chaos.proof import tally
from chaos.result import Result

NAME = "killed processes"
EXTRA_SLOTS = 4
TIMEOUT_S = 900.0
TICK_S = 0.2


class Counts(NamedTuple):
    num_jobs: int
    job_ms: int
    kill_every_s: float


FULL = Counts(num_jobs=300, job_ms=2000, kill_every_s=3.0)
SHORT = Counts(num_jobs=24, job_ms=2000, kill_every_s=2.0)


def run(chaos: Chaos, seed: int, counts: Counts) -> Result:
    """Kills a random child, pool process or main process every ``kill_every_s`` seconds until every job has ended."""
    draw = random.Random(seed)
    killed: Counter[str] = Counter()
    with extra_worker(chaos, "kills", num_slots=EXTRA_SLOTS) as extra:
        job_ids = chaos.submit(counts.num_jobs, counts.job_ms)
        deadline = time.monotonic() + TIMEOUT_S
        next_kill_at = time.monotonic() + counts.kill_every_s
        while chaos.num_unfinished(job_ids) and time.monotonic() < deadline:
            time.sleep(TICK_S)
            families = _families(chaos, extra)
            if time.monotonic() >= next_kill_at:
                next_kill_at += counts.kill_every_s
                killed[_kill_one(draw, families)] += 1
    result = Result(1, NAME, seed)
    seen = tally(chaos, job_ids)
    result.done = f"SIGKILL to a random child, pool process or main process of two workers every {counts.kill_every_s:.0f} s"
    result.figures = {**seen.figures(), "kills": dict(killed)}
    result.expect(seen.num_terminal == counts.num_jobs, f"{counts.num_jobs - seen.num_terminal} jobs did not end within {TIMEOUT_S:.0f} s")
    result.expect(seen.num_double_successes == 0, f"{seen.num_double_successes} jobs succeeded twice")
    result.expect(seen.num_side_by_side == 0, f"{seen.num_side_by_side} runs began beside another run of their job")
    result.expect(set(seen.failures) <= {"poison"}, f"there are failures that are no poison: {seen.examples}")
    result.expect(seen.num_wrong_poison == 0, f"{seen.num_wrong_poison} jobs are poison with another count than three lost attempts")
    result.expect(killed.total() > 0, "nothing was killed")
    return result


def _families(chaos: Chaos, extra: Replica) -> list[Family]:
    """Returns the two workers' processes; one whose main process died is started again."""
    extra.ensure()
    return [family_of(pid) for pid in (chaos.program("worker").pid, extra.pid) if pid]


def _kill_one(draw: random.Random, families: list[Family]) -> str:
    """Kills one process; returns what it was."""
    candidates = {
        "child": [pid for family in families for pid in family.children],
        "pool": [pid for family in families for pid in family.pool],
        "main": [family.main for family in families],
    }
    kinds = [kind for kind, pids in candidates.items() if pids]
    if not kinds:
        return "nobody"
    kind = draw.choice(kinds)
    return kind if send(draw.choice(sorted(candidates[kind])), signal.SIGKILL) else "nobody"
