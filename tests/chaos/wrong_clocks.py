"""8. Two workers whose clocks are two hours off, one ahead and one behind."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from chaos.platform import LEASE_S, Chaos
from chaos.processes import Replica, extra_worker, family_of
from chaos.proof import tally
from chaos.result import Result

NAME = "wrong clocks"
OFFSETS_S = {"ahead": 7200, "behind": -7200}
TOLERANCE_S = 60
MODULE = "chaos.wrong_clock_worker"
NUM_SLOTS = 4
TIMEOUT_S = 120.0


class Counts(NamedTuple):
    num_jobs: int


FULL = Counts(num_jobs=40)
SHORT = Counts(num_jobs=8)


def run(chaos: Chaos, seed: int, counts: Counts) -> Result:
    """Runs jobs of two seconds, and a few that outlast the lease, on the stack's worker and two with wrong clocks and empty caches."""
    result = Result(8, NAME, seed)
    library = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)
    if library is None:
        result.not_run = "faketime is not installed (apt-get install faketime)"
        return result
    variables = {name: _variables(library, offset_s) for name, offset_s in OFFSETS_S.items()}
    for name, offset_s in OFFSETS_S.items():
        seen_s = _clock_offset_s(variables[name])
        result.expect(abs(seen_s - offset_s) < TOLERANCE_S, f"the clock {name} is off by {seen_s:.0f} s instead of {offset_s} s")
    with ExitStack() as stack:
        workers = {
            name: stack.enter_context(extra_worker(chaos, name, num_slots=NUM_SLOTS, module=MODULE, variables=variables[name]))
            for name in OFFSETS_S
        }
        job_ids = chaos.submit(counts.num_jobs, 2000)
        job_ids += chaos.submit(max(1, counts.num_jobs // 5), int(1000 * (LEASE_S + 2)))
        chaos.wait_until_ended(job_ids, TIMEOUT_S)
        shares = {name: _num_runs_of(chaos, worker, job_ids) for name, worker in workers.items()}
    seen = tally(chaos, job_ids)
    result.done = "workers with their clocks two hours ahead and two hours behind beside one that is right; some jobs outlast the lease"
    result.figures = {"early_reaps": seen.num_lost_attempts, "runs": shares, **seen.figures()}
    result.expect(min(shares.values()) > 0, f"a worker with a wrong clock ran nothing: {shares}")
    result.expect(seen.num_lost_attempts == 0, f"{seen.num_lost_attempts} attempts were taken for lost")
    result.expect(seen.num_succeeded == seen.num_jobs, f"only {seen.num_succeeded} of {seen.num_jobs} jobs succeeded: {seen.examples}")
    result.expect(seen.num_double_successes == 0, f"{seen.num_double_successes} jobs succeeded twice")
    result.expect(seen.num_side_by_side == 0, f"{seen.num_side_by_side} runs began beside another run of their job")
    return result


def _variables(library: Path, offset_s: int) -> dict[str, str]:
    # What the faketime command sets. The monotonic clock stays: no machine's is wrong by a date.
    return {"LD_PRELOAD": str(library), "FAKETIME": f"{offset_s:+d}s", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}


def _clock_offset_s(variables: Mapping[str, str]) -> float:
    """Returns by how many seconds the clock of a process with these variables is off."""
    command = [sys.executable, "-c", "import time; print(time.time())"]
    said = subprocess.run(command, env=dict(variables), capture_output=True, text=True, check=True)
    return float(said.stdout) - time.time()


def _num_runs_of(chaos: Chaos, worker: Replica, job_ids: list[str]) -> int:
    """Returns how many runs the worker's pool processes began."""
    pool, known = set(family_of(worker.pid).pool), set(job_ids)
    return sum(mark.what == "begin" and mark.ppid in pool and mark.job_id in known for mark in chaos.stub.marks())
