"""4. An api replica dies between the commit of a submission and the wake-up that follows it."""

from __future__ import annotations

import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, NamedTuple

import httpx

from chaos.platform import SWEEP_S, Chaos, submission, wait_until
from chaos.processes import with_tests
from chaos.proof import tally
from chaos.result import Result

NAME = "lost wakes"
ALLOWANCE_S = 4.0
"""For the message to reach a slot and the slot to claim, on a machine that is busy."""
TIMEOUT_S = 30.0


class Counts(NamedTuple):
    num_kills: int


FULL = Counts(num_kills=100)
SHORT = Counts(num_kills=5)


def run(chaos: Chaos, seed: int, counts: Counts) -> Result:
    """Submits to a replica that dies before it wakes anybody, each time with every slot idle: only a sweep can find the job."""
    result = Result(4, NAME, seed)
    job_ids: list[str] = []
    waits_s: list[float] = []
    num_again = 0
    with _replica(chaos) as replica:
        for cycle in range(counts.num_kills):
            wait_until(chaos.is_idle, TIMEOUT_S, poll_s=0.02)
            key = f"lost-wake-{seed}-{cycle}"
            body = submission(100)
            newest = _newest(chaos)
            died = replica.submit(chaos, body, key)
            # Its id never arrived: it is the one job that is newer.
            found = _newest(chaos)
            found = None if found == newest else found
            result.expect(died, f"the replica of cycle {cycle} was not killed by its failpoint")
            result.expect(found is not None, f"the submission of cycle {cycle} was not committed")
            if not died or found is None:
                break
            job_ids.append(found)
            chaos.wait_until_ended([found], TIMEOUT_S)
            waits_s += _wait_s(chaos, found)
            num_again += _submit_again(chaos, body, key) == found
    seen = tally(chaos, job_ids)
    num_stranded = len(job_ids) - sum(wait_s <= SWEEP_S + ALLOWANCE_S for wait_s in waits_s)
    result.done = (
        "an api replica killed by itself between the commit of a submission and its wake-up, every slot idle; "
        "then the same submission sent again with its Idempotency-Key"
    )
    result.figures = {
        "kills": len(job_ids),
        "stranded": num_stranded,
        "longest_wait_s": max(waits_s, default=0.0),
        "sweep_s": SWEEP_S,
        "same_job_when_sent_again": num_again,
        **seen.figures(),
    }
    result.expect(num_stranded == 0, f"{num_stranded} jobs were not claimed by the next sweep")
    result.expect(num_again == len(job_ids), f"{len(job_ids) - num_again} submissions sent again made another job")
    result.expect(seen.num_succeeded == counts.num_kills, f"{seen.num_succeeded} of {counts.num_kills} jobs succeeded: {seen.examples}")
    result.expect(seen.num_double_successes == 0, f"{seen.num_double_successes} jobs succeeded twice")
    return result


class _Replica:
    """A running chaos.failpoint_api."""

    def __init__(self, to: IO[str], back: IO[str]) -> None:
        self._to = to
        self._back = back
        self._port = int(back.readline())

    def submit(self, chaos: Chaos, body: dict[str, object], key: str) -> bool:
        """Has a replica forked, submits to it, and returns whether it died by SIGKILL in the middle of that."""
        self._to.write("once\n")
        self._to.flush()
        headers = {"Authorization": f"Bearer {chaos.api_key}", "Idempotency-Key": key}
        # The answer may have left before the wake-up, or not: both are between the commit and the wake-up.
        with suppress(httpx.TransportError):
            httpx.post(f"http://127.0.0.1:{self._port}/api/v1/jobs", json=body, headers=headers, timeout=TIMEOUT_S, trust_env=False)
        has_ended = bool(select.select([self._back], [], [], TIMEOUT_S)[0])
        return has_ended and int(self._back.readline()) == signal.SIGKILL


@contextmanager
def _replica(chaos: Chaos) -> Iterator[_Replica]:
    launch = with_tests(chaos.launch_file("api"))
    with (chaos.scratch / "failpoint_api.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "chaos.failpoint_api"],
            env=launch.environment,
            cwd=launch.cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the replica has no pipes")
    try:
        yield _Replica(process.stdin, process.stdout)
    finally:
        process.kill()
        process.communicate()


def _newest(chaos: Chaos) -> str | None:
    rows = chaos.rows("select id from jobs order by id desc limit 1")
    return str(rows[0][0]) if rows else None


def _wait_s(chaos: Chaos, job_id: str) -> list[float]:
    """Returns seconds from the commit to the claim, on the database's clock; nothing for a job that was never claimed."""
    query = """
        select extract(epoch from event.created_at - jobs.created_at) from jobs join job_events event on event.job_id = jobs.id
        where jobs.id = %s and event.kind = 'state' and event.data->>'status' = 'running' order by event.seq limit 1
    """
    return [float(row[0]) for row in chaos.rows(query, job_id)]


def _submit_again(chaos: Chaos, body: dict[str, object], key: str) -> str:
    with chaos.http() as http:
        answer = http.post("/api/v1/jobs", json=body, headers={"Idempotency-Key": key})
        return str(answer.json().get("id"))
