"""2. Supervisors and their children are stopped past the lease, a peer finishes the job, and then they wake up."""

from __future__ import annotations

import signal
from collections import Counter
from typing import Any, NamedTuple

import httpx

from chaos.platform import LEASE_S, Chaos, wait_until
from chaos.processes import extra_worker, is_alive, send
from chaos.proof import tally
from chaos.result import Result
from chaos.stub import Behaviour, Mark

NAME = "late writes"
PEERS_TIMEOUT_S = 60.0
START_TIMEOUT_S = 30.0
GONE_TIMEOUT_S = 15.0
STALE = "urn:quantry:problem:stale-attempt"
NUM_DOORS = 4
"""Heartbeat, events, seal, finish."""


class Counts(NamedTuple):
    num_zombies: int
    num_at_once: int


FULL = Counts(num_zombies=50, num_at_once=10)
SHORT = Counts(num_zombies=4, num_at_once=4)


def run(chaos: Chaos, seed: int, counts: Counts) -> Result:
    """Makes zombies, some at a time, and counts what becomes of their late writes.

    A supervisor that wakes up notices by its own clock and writes nothing; so its writes are also sent for it.
    """
    result = Result(2, NAME, seed)
    job_ids: list[str] = []
    answers: Counter[str] = Counter()
    num_zombies = num_own_writes = num_left = 0
    with extra_worker(chaos, "zombies", num_slots=2 * counts.num_at_once):
        while num_zombies < counts.num_zombies and not result.problems:
            round_ids = chaos.submit(min(counts.num_at_once, counts.num_zombies - num_zombies), 500, Behaviour.SLOW_AT_FIRST)
            job_ids += round_ids
            begun = _stop_all(chaos, round_ids)
            result.expect(len(begun) == len(round_ids), f"only {len(begun)} of {len(round_ids)} jobs could be stopped while they ran")
            try:
                ended = chaos.wait_until_ended(round_ids, LEASE_S + PEERS_TIMEOUT_S)
                result.expect(ended, "no peer finished the jobs of stopped workers")
                seqs = _last_seqs(chaos, round_ids)
            finally:
                _send_all(begun, signal.SIGCONT)
            for mark in begun:
                answers.update(_write_late(chaos, mark))
            # The children are killed by the supervisors that woke up.
            num_left += _num_left([mark.pid for mark in begun])
            num_own_writes += sum(seqs[job_id] != seq for job_id, seq in _last_seqs(chaos, round_ids).items())
            num_zombies += len(begun)
    seen = tally(chaos, job_ids)
    num_writes = num_zombies * NUM_DOORS
    result.done = (
        f"{num_zombies} supervisors with their children stopped past a lease of {LEASE_S:.0f} s; peers finished; then SIGCONT, "
        "and a heartbeat, an event, a seal and a finish of each stale attempt sent to the API"
    )
    result.figures = {
        "zombies": num_zombies,
        "late_writes_sent": num_writes,
        "refused": answers["refused"],
        "written_by_woken_supervisors": num_own_writes,
        **seen.figures(),
    }
    others = {answer: number for answer, number in answers.items() if answer != "refused"}
    result.expect(answers["refused"] == num_writes, f"late writes were not refused as stale-attempt: {others}")
    result.expect(num_own_writes == 0, f"{num_own_writes} jobs got events after their end, from supervisors that woke up")
    result.expect(num_left == 0, f"{num_left} children of stale attempts live on")
    result.expect(seen.num_succeeded == len(job_ids), f"only {seen.num_succeeded} of {len(job_ids)} jobs succeeded: {seen.examples}")
    result.expect(seen.num_double_successes == 0, f"{seen.num_double_successes} jobs succeeded twice")
    return result


def _stop_all(chaos: Chaos, job_ids: list[str]) -> list[Mark]:
    """Stops the pool process and the child of each job's first attempt; returns those that were stopped in their work."""
    wanted = set(job_ids)

    def begun() -> list[Mark]:
        return [mark for mark in chaos.stub.marks() if mark.what == "begin" and mark.attempt == 1 and mark.job_id in wanted]

    wait_until(lambda: len(begun()) == len(wanted), START_TIMEOUT_S)
    marks = begun()
    _send_all(marks, signal.SIGSTOP)
    over = {mark.job_id for mark in chaos.stub.marks() if mark.what == "end"}
    return [mark for mark in marks if mark.job_id not in over]


def _num_left(pids: list[int]) -> int:
    """Returns how many of the processes live on."""
    wait_until(lambda: not any(is_alive(pid) for pid in pids), GONE_TIMEOUT_S)
    return sum(is_alive(pid) for pid in pids)


def _send_all(marks: list[Mark], number: signal.Signals) -> None:
    for mark in marks:
        # The supervisor first: it must not see its child stop.
        send(mark.ppid, number)
        send(mark.pid, number)


def _last_seqs(chaos: Chaos, job_ids: list[str]) -> dict[str, int]:
    return dict(chaos.rows("select job_id, max(seq) from job_events where job_id = any(%s) group by job_id", job_ids))


def _write_late(chaos: Chaos, mark: Mark) -> list[str]:
    """Sends what a stale attempt might still want to write; returns for each door ``refused`` or what was answered."""
    file = {"path": "model.safetensors", "size_bytes": 1, "sha256": "0" * 64}
    evidence = {"kind": "evaluation", "name": "late", "verdict": "pass", "metrics": {}}
    path = f"/api/v1/execution/jobs/{mark.job_id}"
    bodies: dict[str, tuple[str, dict[str, Any]]] = {
        "heartbeat": (f"{path}/heartbeat", {"attempt": mark.attempt}),
        "events": (f"{path}/events", {"attempt": mark.attempt, "offset": 0, "events": [{"kind": "note", "data": {"text": "late"}}]}),
        "seal": ("/api/v1/seals", {"job_id": mark.job_id, "attempt": mark.attempt, "files": [file]}),
        "finish": (f"{path}/finish", {"attempt": mark.attempt, "outcome": "succeeded", "reason": "completed", "evidence": [evidence]}),
    }
    with chaos.http(key=chaos.worker_token) as http:
        return [_words(door, http.post(url, json=body)) for door, (url, body) in bodies.items()]


def _words(door: str, answer: httpx.Response) -> str:
    is_refused = answer.status_code == httpx.codes.CONFLICT and answer.json().get("type") == STALE
    return "refused" if is_refused else f"{door}: {answer.status_code} {answer.text[:120]}"
