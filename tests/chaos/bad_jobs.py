"""7. A job that kills itself and one that eats memory, beside jobs that do nothing wrong."""

from __future__ import annotations

from statistics import median
from typing import NamedTuple

from chaos.platform import Chaos
from chaos.proof import tally
from chaos.result import Result
from chaos.stub import Behaviour

NAME = "bad jobs"
NUM_ATTEMPTS = 3
MEMORY_LIMIT_BYTES = 192 * 1024**2
NEIGHBOUR_MS = 1000
TIMEOUT_S = 180.0


class Counts(NamedTuple):
    num_bad: int
    """Of each kind."""

    num_neighbours: int


FULL = Counts(num_bad=3, num_neighbours=40)
SHORT = Counts(num_bad=1, num_neighbours=4)


def run(chaos: Chaos, seed: int, counts: Counts) -> Result:
    """Runs the neighbours alone, and then again with the bad jobs among them."""
    result = Result(7, NAME, seed)
    alone = chaos.submit(counts.num_neighbours, NEIGHBOUR_MS)
    chaos.wait_until_ended(alone, TIMEOUT_S)
    killers = chaos.submit(counts.num_bad, NEIGHBOUR_MS, Behaviour.KILL_ITSELF)
    eaters = chaos.submit(counts.num_bad, NEIGHBOUR_MS, Behaviour.EAT_MEMORY, limits={"memory_bytes": MEMORY_LIMIT_BYTES})
    beside = chaos.submit(counts.num_neighbours, NEIGHBOUR_MS)
    job_ids = [*killers, *eaters, *beside]
    chaos.wait_until_ended(job_ids, TIMEOUT_S)
    seen = tally(chaos, job_ids)
    _expect_end(result, chaos, killers, "poison")
    _expect_end(result, chaos, eaters, "out_of_memory")
    harmed = chaos.rows("select count(*) from jobs where id = any(%s) and not (status = 'succeeded' and attempt = 1)", beside)[0][0]
    alone_s, beside_s = _median_s(chaos, alone), _median_s(chaos, beside)
    result.done = (
        f"{counts.num_bad} jobs that kill themselves and {counts.num_bad} that eat memory, among {counts.num_neighbours} good ones"
    )
    result.figures = {
        **seen.figures(),
        "neighbours_harmed": harmed,
        "median_s_alone": alone_s,
        "median_s_beside": beside_s,
        "ratio": beside_s / alone_s if alone_s else 0.0,
    }
    result.expect(harmed == 0, f"{harmed} neighbours did not succeed in their first attempt")
    result.expect(seen.num_double_successes == 0, f"{seen.num_double_successes} jobs succeeded twice")
    return result


def _expect_end(result: Result, chaos: Chaos, job_ids: list[str], reason: str) -> None:
    rows = chaos.rows("select status, reason, attempt from jobs where id = any(%s)", job_ids)
    wrong = [row for row in rows if row != ("failed", reason, NUM_ATTEMPTS)]
    result.expect(not wrong, f"instead of failed, {reason}, after {NUM_ATTEMPTS} attempts: {wrong}")


def _median_s(chaos: Chaos, job_ids: list[str]) -> float:
    """Returns the middle of the jobs' durations, by what their workers measured."""
    rows = chaos.rows("select (result->>'seconds')::float from jobs where id = any(%s) and status = 'succeeded'", job_ids)
    return float(median(row[0] for row in rows)) if rows else 0.0
