"""10. Fifty identical submissions at once, with one Idempotency-Key."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any, NamedTuple

import httpx

from chaos.platform import Chaos, submission
from chaos.proof import num_runs, tally
from chaos.result import Result

NAME = "same request"
NUM_PARALLEL = 50
MAX_TRIES = 50
TIMEOUT_S = 60.0
REUSED = "urn:quantry:problem:idempotency-key-reused"


class Counts(NamedTuple):
    num_keys: int


FULL = Counts(num_keys=10)
SHORT = Counts(num_keys=1)


def run(chaos: Chaos, seed: int, counts: Counts) -> Result:
    """For each key: fifty submissions at once, each sent again while it is told that another is worked on; then a changed one."""
    result = Result(10, NAME, seed)
    answers: Counter[int] = Counter()
    job_ids: list[str] = []
    newest = chaos.rows("select coalesce(max(id), '') from jobs")[0][0]
    for number in range(counts.num_keys):
        key = f"same-{seed}-{number}"
        told = asyncio.run(_submit_in_parallel(chaos, key, answers))
        result.expect(len(set(told)) == 1, f"key {number} was answered with {len(set(told))} different jobs")
        job_ids += sorted(set(told))
        changed = _submit_changed(chaos, key)
        is_refused = changed.status_code == httpx.codes.UNPROCESSABLE_ENTITY and changed.json()["type"] == REUSED
        result.expect(is_refused, f"a changed body was answered {changed.status_code}: {changed.text[:200]}")
    num_made = chaos.rows("select count(*) from jobs where id > %s", newest)[0][0]
    chaos.wait_until_ended(job_ids, TIMEOUT_S)
    seen = tally(chaos, job_ids)
    result.done = f"{NUM_PARALLEL} identical submissions at once for each of {counts.num_keys} keys, and one with another body"
    statuses = {str(status): number for status, number in sorted(answers.items())}
    result.figures = {"keys": counts.num_keys, "answers": statuses, "jobs_made": num_made, **seen.figures()}
    result.expect(num_made == counts.num_keys, f"{num_made} jobs were made for {counts.num_keys} keys")
    result.expect(set(answers) <= {201, 409}, f"there were answers other than 201 and 409: {statuses}")
    result.expect(set(num_runs(chaos, job_ids).values()) == {1}, "a job did not run exactly once")
    return result


async def _submit_in_parallel(chaos: Chaos, key: str, answers: Counter[int]) -> list[str]:
    """Returns the job id that each of the clients was told in the end."""
    limits = httpx.Limits(max_connections=NUM_PARALLEL)
    headers = {"Authorization": f"Bearer {chaos.api_key}", "Idempotency-Key": key}
    async with httpx.AsyncClient(base_url=chaos.url, headers=headers, limits=limits, timeout=TIMEOUT_S, trust_env=False) as http:
        return await asyncio.gather(*(_submit(http, submission(100), answers) for _ in range(NUM_PARALLEL)))


async def _submit(http: httpx.AsyncClient, body: dict[str, Any], answers: Counter[int]) -> str:
    for _ in range(MAX_TRIES):
        answer = await http.post("/api/v1/jobs", json=body)
        answers[answer.status_code] += 1
        if answer.status_code != httpx.codes.CONFLICT:
            return str(answer.json().get("id"))
        await asyncio.sleep(float(answer.headers.get("Retry-After", "0")))
    return "never answered"


def _submit_changed(chaos: Chaos, key: str) -> httpx.Response:
    with chaos.http() as http:
        return http.post("/api/v1/jobs", json=submission(101), headers={"Idempotency-Key": key})
