"""9. Two scheduler replicas are killed at random while a schedule is due every two seconds."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from datetime import datetime, timedelta
from typing import NamedTuple

import httpx

from chaos.platform import Chaos, submission, wait_until
from chaos.processes import Replica, send
from chaos.proof import tally
from chaos.result import Result
from factories.servers import free_port

NAME = "killed schedulers"
INTERVAL_S = 2
JOB_MS = 100
NUM_LESSONS = 20
SETTLE_S = 120.0
MIN_PAUSE_S, MAX_PAUSE_S = 3.0, 8.0


class Counts(NamedTuple):
    num_fires: int


FULL = Counts(num_fires=50)
SHORT = Counts(num_fires=5)


def run(chaos: Chaos, seed: int, counts: Counts) -> Result:
    """Kills one of the two apis every few seconds while ``num_fires`` times come due."""
    result = Result(9, NAME, seed)
    draw = random.Random(seed)
    launch = chaos.launch_file("api")
    environment = {**launch.environment, "QUANTRY_API_PORT": str(free_port())}
    second = Replica(launch.model_copy(update={"environment": environment}), chaos.scratch / "api-second.log")
    second.ensure()
    num_kills = 0
    # The api refuses a schedule that is due more often than its job can run. By the headers an evaluation takes seconds; from
    # these the estimate learns how short the stub's is, once it looks at them again.
    chaos.wait_until_ended(chaos.submit(NUM_LESSONS, JOB_MS), SETTLE_S)
    wait_until(lambda: _estimate_s(chaos) < INTERVAL_S, SETTLE_S)
    try:
        schedule = _create(chaos, f"chaos-{seed}")
        first = datetime.fromisoformat(schedule["next_run_at"])
        last = first + timedelta(seconds=INTERVAL_S * (counts.num_fires - 1))
        until = time.monotonic() + (last - _database_now(chaos)).total_seconds()
        while time.monotonic() < until:
            time.sleep(min(draw.uniform(MIN_PAUSE_S, MAX_PAUSE_S), max(0.0, until - time.monotonic())))
            second.ensure()
            victim = draw.choice([chaos.program("api").pid, second.pid])
            num_kills += bool(victim) and send(victim, signal.SIGKILL)
        # With the overlap policy queue, a run that is due while the one before is not over is held and fired after it.
        wait_until(lambda: _num_fired(chaos, schedule["id"], last) >= counts.num_fires, SETTLE_S)
        wait_until(lambda: _pause(chaos, schedule["id"]), SETTLE_S)
    finally:
        second.stop()
    fires = _fires(chaos, schedule["id"], last)
    job_ids = [job_id for _, outcome, job_id in fires if job_id is not None]
    chaos.wait_until_ended(job_ids, SETTLE_S)
    due = {first + timedelta(seconds=INTERVAL_S * number) for number in range(counts.num_fires)}
    fired = [due_at for due_at, outcome, _ in fires if outcome == "fired"]
    made = chaos.rows("select count(*) from jobs where schedule_id = %s and id <> all(%s)", schedule["id"], job_ids)[0][0]
    beyond = "select count(*) from schedule_runs where schedule_id = %s and due_at > %s and outcome = 'fired'"
    num_beyond = chaos.rows(beyond, schedule["id"], last)[0][0]
    seen = tally(chaos, job_ids)
    result.done = f"SIGKILL to a random one of two apis every {MIN_PAUSE_S:.0f} to {MAX_PAUSE_S:.0f} s, a fire due every {INTERVAL_S} s"
    result.figures = {"due": counts.num_fires, "fires": len(fired), "kills": num_kills, **seen.figures()}
    others = Counter(outcome for _, outcome, _ in fires if outcome != "fired")
    result.expect(set(fired) == due, f"missing: {len(due - set(fired))}, not due: {len(set(fired) - due)}, not fired: {dict(others)}")
    result.expect(len(fired) == len(set(fired)), f"{len(fired) - len(set(fired))} times fired twice")
    result.expect(made == num_beyond, f"{made - num_beyond} jobs were made by no fire")
    result.expect(len(set(job_ids)) == counts.num_fires, f"{len(set(job_ids))} jobs for {counts.num_fires} fires")
    result.expect(seen.num_succeeded == counts.num_fires, f"only {seen.num_succeeded} of the jobs succeeded")
    result.expect(num_kills > 0, "nobody was killed")
    return result


def _create(chaos: Chaos, name: str) -> dict[str, str]:
    body = {
        "name": name,
        "cron": f"*/{INTERVAL_S} * * * * *",
        "template": {"kind": "job", "submission": submission(JOB_MS)},
        "overlap": "queue",
        "missed": "run_all",
    }
    with chaos.http() as http:
        answer = http.post("/api/v1/schedules", json=body)
        if answer.status_code != httpx.codes.CREATED:
            raise RuntimeError(f"the schedule was answered {answer.status_code}: {answer.text[:500]}")
        created: dict[str, str] = answer.json()
        return created


def _estimate_s(chaos: Chaos) -> float:
    with chaos.http() as http:
        return float(http.post("/api/v1/jobs/estimate", json=submission(JOB_MS)).json()["minutes"]) * 60


def _pause(chaos: Chaos, schedule_id: str) -> bool:
    with chaos.http() as http:
        try:
            return http.patch(f"/api/v1/schedules/{schedule_id}", json={"is_paused": True}).is_success
        except httpx.TransportError:
            return False


def _fires(chaos: Chaos, schedule_id: str, last: datetime) -> list[tuple[datetime, str, str | None]]:
    query = "select due_at, outcome, job_id from schedule_runs where schedule_id = %s and due_at <= %s order by due_at"
    return [(due_at, outcome, job_id) for due_at, outcome, job_id in chaos.rows(query, schedule_id, last)]


def _num_fired(chaos: Chaos, schedule_id: str, last: datetime) -> int:
    return sum(outcome == "fired" for _, outcome, _ in _fires(chaos, schedule_id, last))


def _database_now(chaos: Chaos) -> datetime:
    now: datetime = chaos.rows("select now()")[0][0]
    return now
