"""Retention over HTTP: the table for viewers, runs and their reports for the platform's admins."""

from __future__ import annotations

from quantry_core.keys import Role
from quantry_core.retention import KEPT_FOR_EVER, RETAINED

from .conftest import Api, slug, until
from .test_metrics import scrape


async def test_a_run_is_asked_for_played_and_reported(api: Api) -> None:
    policy = (await api[Role.VIEWER].get("/api/v1/retention")).json()
    assert [rule["kind"] for rule in policy["rules"]] == [line.kind for line in RETAINED]
    assert policy["for_ever"] == list(KEPT_FOR_EVER)
    for path in ("/api/v1/retention/runs", "/api/v1/retention/runs/ret_1"):
        assert slug(await api[Role.OPERATOR].get(path)) == "forbidden"
    assert slug(await api[Role.ADMIN].get("/api/v1/retention/runs/ret_1")) == "not-found"
    assert slug(await api[Role.ADMIN].post("/api/v1/retention/run", json={"dry": True})) == "invalid-input"

    job = await api.submit_import()
    await api[Role.OPERATOR].post(f"/api/v1/jobs/{job['id']}/cancel")
    async with api.database.begin() as uow:
        await uow.idempotency.save(api.project_id, "key", "0" * 64, job["id"])
    asked = []
    for dry_run in (True, False):
        answer = await api[Role.ADMIN].post("/api/v1/retention/run", json={"dry_run": dry_run})
        assert answer.status_code == 202, answer.text
        asked.append(answer.json()["id"])

    async def has_ended() -> bool:
        run = (await api[Role.ADMIN].get(f"/api/v1/retention/runs/{asked[-1]}")).json()
        return run["finished_at"] is not None

    await until(has_ended)
    listed = {run["id"]: run for run in (await api[Role.ADMIN].get("/api/v1/retention/runs")).json()["data"]}
    assert [(listed[run_id]["status"], listed[run_id]["dry_run"]) for run_id in asked] == [("succeeded", True), ("succeeded", False)]
    assert listed[asked[0]]["asked_by_key_id"] is not None
    acts = (await api[Role.ADMIN].get("/api/v1/audit", params={"action": "retention.*"})).json()["data"]
    assert [act["action"] for act in acts] == ["retention.ask"] * 2, "nothing was over, so that nothing is told of an end"
    samples = await scrape(api)
    assert samples["quantry_retention_last_success_timestamp_seconds"] > 0
    assert samples['quantry_retention_removed_total{kind="job-events"}'] == 0
