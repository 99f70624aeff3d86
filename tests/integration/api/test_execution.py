"""The execution API end to end: claim, heartbeat, events, finish, and the fence around every write."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from quantry_api.settings import ApiSettings
from quantry_core.execution import FinishRequest, Outcome
from quantry_core.jobs import BUILT_IN_QUALITY_CORPUS, JobReason
from quantry_core.keys import Role

from .conftest import ENVIRONMENTS, WORKER_ID, Api, slug

EVALUATION = {"kind": "evaluation", "name": "shakespeare", "verdict": "pass", "metrics": {"perplexity": 12.5}}


async def test_a_job_runs_from_claim_to_version(api: Api, api_settings: ApiSettings) -> None:
    job = await api.submit_import()
    lease = await api.claim()
    assert lease is not None
    assert (lease["job"]["id"], lease["attempt"], lease["inputs"]) == (job["id"], 1, [])
    assert (lease["lease_s"], lease["heartbeat_s"]) == (api_settings.lease_s, api_settings.heartbeat_s)
    assert await api.claim() is None

    beat = await api.execute(lease, "heartbeat")
    assert beat.json() == {"lease_s": api_settings.lease_s, "cancel_requested": False}

    progress = {"phase": "copying", "fraction": 0.5, "detail": "1 of 2", "done": 1, "total": 2, "unit": "files"}
    events = [{"kind": "note", "data": {"text": "hello"}}, {"kind": "progress", "data": progress}]
    for _ in range(2):
        reported = await api.execute(lease, "events", offset=0, events=events)
        assert (reported.status_code, reported.content) == (204, b"")
    assert progress.items() <= (await api.show(job))["progress"].items()
    async with api.database.begin() as uow:
        kinds = [event.kind for event in await uow.events.after(api.project_id, job["id"], 0)]
    assert kinds == ["state", "state", "note", "progress"], "sent twice and stored once"

    draft = await api.master_draft(lease)
    finished = await api.execute(lease, "finish", outcome="succeeded", reason="completed", version=draft, seconds=1.5)
    assert finished.status_code == 200
    shown = await api.show(job)
    assert finished.json() == shown
    assert (shown["status"], shown["reason"], shown["result"]["seconds"]) == ("succeeded", "completed", 1.5)
    assert shown["result"]["version_id"].startswith("ver_")


async def test_a_quantize_job_gets_its_inputs_with_their_files(api: Api) -> None:
    master, dataset = await api.make_master(), await api.make_dataset()
    await api.submit(type="quantize", base="bard", group_size=32, calibration={"datasets": ["shakespeare"]})
    lease = await api.claim()
    assert lease is not None
    measured_on = (await api.dataset(BUILT_IN_QUALITY_CORPUS)).id
    inputs = [(item["role"], item["id"], item["ref"], [file["path"] for file in item["files"]]) for item in lease["inputs"]]
    assert inputs == [
        ("base", master, "bard@1", ["model.safetensors"]),
        ("calibration", dataset, "shakespeare@1", ["text.txt"]),
        ("corpus", measured_on, "builtin.prose.test@1", ["text.txt"]),
    ]


async def test_an_evaluation_is_kept_with_its_subject(api: Api) -> None:
    version_id = await api.make_master()
    await api.make_dataset()
    await api.submit(type="evaluate", version="bard", corpora=["shakespeare"])
    lease = await api.claim()
    assert lease is not None
    finished = await api.execute(lease, "finish", outcome="succeeded", reason="completed", evidence=[EVALUATION])
    assert finished.json()["status"] == "succeeded"
    async with api.database.begin() as uow:
        (evidence,) = await uow.evidence.list(version_id)
    assert (evidence.name, evidence.metrics) == ("shakespeare", {"perplexity": 12.5})


async def test_a_priority_of_0_is_claimed_first(api: Api) -> None:
    late = await api.submit_import("late")
    body = {"spec": {"type": "import", "model": "soon", "source": "hf:owner/name"}, "priority": 0}
    soon = (await api[Role.OPERATOR].post("/api/v1/jobs", json=body)).json()
    claimed = [await api.claim(), await api.claim()]
    assert [lease["job"]["id"] for lease in claimed if lease] == [soon["id"], late["id"]]


async def test_claims_side_by_side_never_get_the_same_job(api: Api) -> None:
    for number in range(3):
        await api.submit_import(f"bard-{number}")
    leases = await asyncio.gather(*(api.claim(f"wrk_{number:032x}") for number in range(6)))
    ids = [lease["job"]["id"] for lease in leases if lease]
    assert len(ids) == len(set(ids)) == 3


async def test_a_released_job_is_queued_again_and_costs_nothing(api: Api) -> None:
    job = await api.submit_import()
    lease = await api.claim()
    assert lease is not None
    await api.execute(lease, "finish", outcome="released", reason="worker_lost")
    shown = await api.show(job)
    assert (shown["status"], shown["num_lost_attempts"]) == ("queued", 0)
    again = await api.claim()
    assert again is not None
    assert again["attempt"] == 2


REPORTS: list[tuple[str, dict[str, Any]]] = [
    ("heartbeat", {}),
    ("events", {"offset": 0, "events": [{"kind": "log", "data": {"text": "late"}}]}),
    ("finish", {"outcome": "failed", "reason": "diverged"}),
]


async def test_an_old_attempt_that_wakes_up_writes_nothing(api: Api) -> None:
    job = await api.submit_import()
    old = await api.claim("wrk_" + "1" * 32)
    assert old is not None
    await api.execute(old, "finish", outcome="released", reason="worker_lost")
    new = await api.claim("wrk_" + "2" * 32)
    assert new is not None
    before = await api.show(job)
    for action, body in REPORTS:
        for attempt in (old["attempt"], 0, -1, 3, 10**30):
            refused = await api.execute({**old, "attempt": attempt}, action, **body)
            assert (action, attempt, refused.status_code, slug(refused)) == (action, attempt, 409, "stale-attempt")
    draft = await api.master_draft(new)
    refused = await api.execute(old, "finish", outcome="succeeded", reason="completed", version=draft)
    assert (refused.status_code, slug(refused)) == (409, "stale-attempt")
    assert await api.show(job) == before
    finished = await api.execute(new, "finish", outcome="succeeded", reason="completed", version=draft)
    assert finished.json()["status"] == "succeeded"
    async with api.database.begin() as uow:
        assert (await uow.models.get(api.project_id, "bard")).num_versions == 1


async def test_an_attempt_that_ended_cannot_end_again(api: Api) -> None:
    job = await api.submit_import()
    lease = await api.claim()
    assert lease is not None
    draft = await api.master_draft(lease)
    answers = await asyncio.gather(
        *(api.execute(lease, "finish", outcome="succeeded", reason="completed", version=draft) for _ in range(3))
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409]
    for action, body in REPORTS:
        refused = await api.execute(lease, action, **body)
        assert (action, refused.status_code, slug(refused)) == (action, 409, "stale-attempt")
    assert (await api.show(job))["status"] == "succeeded"


async def test_bytes_that_were_not_sealed_make_no_version(api: Api) -> None:
    job = await api.submit_import()
    lease = await api.claim()
    assert lease is not None
    draft = await api.master_draft(lease)
    draft["files"][0]["sha256"] = "0" * 64
    refused = await api.execute(lease, "finish", outcome="succeeded", reason="completed", version=draft)
    assert (refused.status_code, slug(refused)) == (409, "seal-refused")
    assert (await api.show(job))["status"] == "running"


async def test_characters_and_numbers_that_cannot_be_stored_do_not_break_a_report(api: Api) -> None:
    job = await api.submit_import()
    lease = await api.claim()
    assert lease is not None
    path = f"/api/v1/execution/jobs/{job['id']}/"
    json_body = {"Content-Type": "application/json"}
    events = '{"attempt": 1, "offset": 0, "events": [{"kind": "log", "data": {"text": "a\\u0000b"}}]}'
    ended = FinishRequest(
        attempt=1, outcome=Outcome.FAILED, reason=JobReason.DIVERGED, message="a\0b", metrics={"loss": math.nan}, seconds=math.inf
    )
    assert (await api[Role.WORKER].post(path + "events", content=events, headers=json_body)).status_code == 204
    # As a worker writes it: what is no number of JSON is null.
    assert (await api[Role.WORKER].post(path + "finish", content=ended.model_dump_json(), headers=json_body)).status_code == 200
    log = await api[Role.VIEWER].get(f"/api/v1/jobs/{job['id']}/log")
    assert log.text == "--- attempt 1 ---\na\ufffdb\n"
    shown = await api.show(job)
    assert (shown["message"], shown["result"]["metrics"], shown["result"]["seconds"]) == ("a\ufffdb", {"loss": None}, None)


async def test_a_worker_may_not_move_a_job_by_an_event(api: Api) -> None:
    job = await api.submit_import()
    lease = await api.claim()
    assert lease is not None
    refused = await api.execute(lease, "events", offset=0, events=[{"kind": "state", "data": {"status": "succeeded"}}])
    assert (refused.status_code, slug(refused)) == (422, "invalid-input")
    too_many = await api.execute(lease, "events", offset=0, events=[{"kind": "note", "data": {}}] * 501)
    assert (too_many.status_code, slug(too_many)) == (422, "invalid-input")
    assert (await api.show(job))["status"] == "running"


async def test_a_malformed_claim_is_refused(api: Api) -> None:
    for body in ({"queue": "gpu", "worker_id": "a"}, {"queue": "cpu"}, {"queue": "cpu", "worker_id": "a", "x": 1}):
        refused = await api[Role.WORKER].post("/api/v1/execution/next", json=body)
        assert (body, refused.status_code, slug(refused)) == (body, 422, "invalid-input")


async def test_events_with_a_hole_before_them_are_refused(api: Api) -> None:
    await api.submit_import()
    lease = await api.claim()
    assert lease is not None
    refused = await api.execute(lease, "events", offset=3, events=[{"kind": "note", "data": {"text": "x"}}])
    assert (refused.status_code, slug(refused)) == (422, "invalid-input")
    assert "only 0 of this attempt are stored" in refused.json()["detail"]


async def test_a_failure_that_may_pass_is_tried_again_later(api: Api) -> None:
    job = await api.submit_import()
    lease = await api.claim()
    assert lease is not None
    finished = await api.execute(lease, "finish", outcome="failed", reason="out_of_memory", message="killed at 2 GiB")
    assert finished.status_code == 200
    shown = await api.show(job)
    assert (shown["status"], shown["waiting_on"], shown["reason"], shown["message"]) == (
        "waiting",
        "time",
        "out_of_memory",
        "killed at 2 GiB",
    )
    assert (shown["retries"], shown["result"], shown["not_before"] is not None) == ({"out_of_memory": 1}, None, True)


async def test_a_worker_says_that_it_is_there(api: Api) -> None:
    hello = {"host": "a", "pid": 1, "version": "0.2", "queues": ["cpu"], "num_slots": 1, "environments": ENVIRONMENTS}
    path = f"/api/v1/execution/workers/{WORKER_ID}"
    for _ in range(2):
        answer = await api[Role.WORKER].put(path, json=hello)
        assert (answer.status_code, answer.content) == (204, b"")
    async with api.database.begin() as uow:
        (worker,) = await uow.workers.list()
    assert (worker.id, worker.is_alive, worker.job_ids) == (WORKER_ID, True, [])
    for bad_path, body in ((path, {**hello, "queues": []}), (path, {**hello, "num_slots": 0}), (path[:-1], hello)):
        refused = await api[Role.WORKER].put(bad_path, json=body)
        assert (refused.status_code, slug(refused)) == (422, "invalid-input")
    refused = await api[Role.ADMIN].put(path, json=hello)
    assert (refused.status_code, slug(refused)) == (403, "forbidden")
