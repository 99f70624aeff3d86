"""6. Postgres is stopped at once and comes back, and then its backends are terminated one by one, under load."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

import httpx
import psycopg

from chaos.platform import Chaos, submission, wait_until
from chaos.processes import send
from chaos.proof import tally
from chaos.result import Result

NAME = "postgres away"
RECOVERY_TIMEOUT_S = 30.0
DRAIN_TIMEOUT_S = 180.0
JOB_MS = 200
PAUSE_S = 0.1
MAX_TRIES = 300


class Counts(NamedTuple):
    num_stops: int
    terminate_for_s: float


FULL = Counts(num_stops=5, terminate_for_s=60.0)
SHORT = Counts(num_stops=1, terminate_for_s=5.0)


@dataclass
class Load:
    """Two clients of the api that never stop asking, and what they were answered."""

    chaos: Chaos
    answers: Counter[int] = field(default_factory=Counter)
    num_without_retry_after: int = 0
    num_unanswered: int = 0
    last_success_at: float = 0.0
    keys: dict[str, str] = field(default_factory=dict)
    """Job ids by Idempotency-Key."""

    bodies: list[str] = field(default_factory=list)
    """The first answers that should not be."""

    is_over: threading.Event = field(default_factory=threading.Event)

    def submit(self) -> None:
        """Submits jobs, each again under its key until it is accepted."""
        with self.chaos.http(part="api") as http:
            while not self.is_over.is_set():
                key = f"load-{len(self.keys)}-{time.time_ns()}"
                for _ in range(MAX_TRIES):
                    answer = self._ask(lambda key=key: http.post("/api/v1/jobs", json=submission(JOB_MS), headers={"Idempotency-Key": key}))
                    if answer is not None and answer.status_code == httpx.codes.CREATED:
                        self.keys[key] = answer.json()["id"]
                        break
                    time.sleep(PAUSE_S)
                time.sleep(4 * PAUSE_S)

    def list(self) -> None:
        """Lists jobs."""
        with self.chaos.http(part="api") as http:
            while not self.is_over.is_set():
                self._ask(lambda: http.get("/api/v1/jobs", params={"limit": 20}))
                time.sleep(PAUSE_S)

    def _ask(self, request: object) -> httpx.Response | None:
        if not callable(request):
            raise TypeError("a request is a function")
        try:
            answer: httpx.Response = request()
        except httpx.TransportError:
            self.num_unanswered += 1
            return None
        self.answers[answer.status_code] += 1
        if answer.is_success:
            self.last_success_at = time.monotonic()
        elif answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            self.num_without_retry_after += "retry-after" not in answer.headers
        elif len(self.bodies) < 3:
            self.bodies.append(f"{answer.status_code} {answer.text[:200]}")
        return answer


def run(chaos: Chaos, seed: int, counts: Counts) -> Result:
    """Stops Postgres ``num_stops`` times as a power cut would, then terminates a backend each second."""
    result = Result(6, NAME, seed)
    draw = random.Random(seed)
    load = Load(chaos)
    threads = [threading.Thread(target=one, daemon=True) for one in (load.submit, load.submit, load.list, load.list)]
    for thread in threads:
        thread.start()
    try:
        recoveries_s = [_stop_once(chaos, load, draw) for _ in range(counts.num_stops)]
        num_terminated = _terminate_backends(chaos, draw, counts.terminate_for_s)
        ended_at = time.monotonic()
        result.expect(wait_until(lambda: load.last_success_at > ended_at, RECOVERY_TIMEOUT_S), "the api did not recover")
    finally:
        load.is_over.set()
        for thread in threads:
            thread.join(RECOVERY_TIMEOUT_S)
    job_ids = list(load.keys.values())
    chaos.wait_until_ended(job_ids, DRAIN_TIMEOUT_S)
    _judge(result, chaos, load, job_ids)
    result.done = (
        f"Postgres stopped with SIGQUIT {counts.num_stops} times and a backend terminated each second for {counts.terminate_for_s:.0f} s, "
        "under two submitting and two listing clients"
    )
    result.figures |= {"stops": counts.num_stops, "longest_recovery_s": max(recoveries_s), "terminated": num_terminated}
    result.expect(max(recoveries_s) < RECOVERY_TIMEOUT_S, f"the api did not answer again within {RECOVERY_TIMEOUT_S:.0f} s")
    return result


def _judge(result: Result, chaos: Chaos, load: Load, job_ids: list[str]) -> None:
    seen = tally(chaos, job_ids)
    num_rows = chaos.rows(
        "select count(*) from jobs where id = any(%s) or created_at >= (select min(created_at) from jobs where id = any(%s))",
        job_ids,
        job_ids,
    )[0][0]
    answers = {str(status): number for status, number in sorted(load.answers.items())}
    result.figures = {
        "answers": answers,
        "unanswered": load.num_unanswered,
        "jobs_without_a_key": num_rows - len(job_ids),
        **seen.figures(),
    }
    wrong = {status: number for status, number in answers.items() if not status.startswith("2") and status not in {"503", "409"}}
    result.expect(not wrong, f"there were answers other than success and 503: {wrong}, for example {load.bodies}")
    result.expect(load.answers[503] > 0, "nothing was answered 503: Postgres was not missed")
    result.expect(load.num_without_retry_after == 0, f"{load.num_without_retry_after} answers 503 had no Retry-After")
    result.expect(load.num_unanswered == 0, f"{load.num_unanswered} requests got no answer at all")
    result.expect(num_rows == len(job_ids), f"{num_rows - len(job_ids)} jobs were made beside those of the keys")
    result.expect(seen.num_terminal == seen.num_jobs, f"{seen.num_jobs - seen.num_terminal} jobs did not end")
    result.expect(set(seen.failures) <= {"poison"}, f"there are failures that are no poison: {seen.examples}")
    result.expect(seen.num_double_successes == 0, f"{seen.num_double_successes} jobs succeeded twice")


def _stop_once(chaos: Chaos, load: Load, draw: random.Random) -> float:
    """Stops Postgres without a checkpoint; returns seconds until the api succeeds again."""
    time.sleep(1 + draw.random())
    postmaster = chaos.program("postgres").pid
    # SIGQUIT is what `pg_ctl stop -m immediate` sends. The process manager starts it again.
    send(postmaster, signal.SIGQUIT)
    stopped_at = time.monotonic()
    wait_until(lambda: chaos.program("postgres").pid not in {0, postmaster}, RECOVERY_TIMEOUT_S)
    restarted_at = time.monotonic()
    wait_until(lambda: load.last_success_at > restarted_at, RECOVERY_TIMEOUT_S)
    return time.monotonic() - stopped_at


def _terminate_backends(chaos: Chaos, draw: random.Random, for_s: float) -> int:
    """Ends one random connection to the platform's database each second; returns how many were ended."""
    num_terminated = 0
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        time.sleep(1.0)
        try:
            with chaos.database() as connection:
                query = "select pid from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() order by pid"
                pids = [row[0] for row in connection.execute(query)]
                if pids:
                    connection.execute("select pg_terminate_backend(%s)", [draw.choice(pids)])
                    num_terminated += 1
        except psycopg.OperationalError:
            continue
    return num_terminated
