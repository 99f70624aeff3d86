"""What Prometheus reads: counted where it happens, gauges from the database."""

from __future__ import annotations

import httpx
from pydantic import SecretStr

from quantry_api.app import build_app
from quantry_api.settings import ApiSettings
from quantry_core.keys import Role
from quantry_store.settings import StoreSettings

from .conftest import Api, client_of
from .test_sweeps import expire_leases

WORKER = "wrk_" + "a" * 32
HELLO = {
    "host": "here",
    "pid": 1,
    "version": "0.1.0",
    "queues": ["cpu"],
    "num_slots": 2,
    "environments": {"ml": "0" * 64},
}


async def scrape(api: Api) -> dict[str, float]:
    """Returns the samples by name and labels, as Prometheus writes them."""
    async with client_of(api.app, None) as anybody:
        response = await anybody.get("/metrics")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/plain")
    lines = [line for line in response.text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


async def test_jobs_are_gauged_by_queue_and_status(api: Api) -> None:
    for number in range(3):
        await api.submit_import(f"model-{number}")
    assert await api.claim() is not None
    found = await scrape(api)
    assert found['quantry_jobs{queue="cpu",status="queued"}'] == 2
    assert found['quantry_jobs{queue="cpu",status="running"}'] == 1
    assert found["quantry_workers_alive"] == 0


async def test_an_empty_queue_keeps_no_old_number(api: Api) -> None:
    job = await api.submit_import()
    assert 'quantry_jobs{queue="cpu",status="queued"}' in await scrape(api)
    await api[Role.OPERATOR].post(f"/api/v1/jobs/{job['id']}/cancel")
    assert 'quantry_jobs{queue="cpu",status="queued"}' not in await scrape(api)


async def test_ends_are_counted_once_by_type_status_and_reason(api: Api) -> None:
    cancelled = await api.submit_import("one")
    for _ in range(2):
        await api[Role.OPERATOR].post(f"/api/v1/jobs/{cancelled['id']}/cancel")
    await api.make_master("two")
    await api.submit_import("three")
    lease = await api.claim()
    assert lease is not None
    for _ in range(2):
        await api.execute(lease, "finish", outcome="failed", reason="invalid_input", message="no")
    found = await scrape(api)
    ended = {name: value for name, value in found.items() if name.startswith("quantry_jobs_ended_total") and value}
    assert ended == {
        'quantry_jobs_ended_total{reason="cancelled",status="cancelled",type="import"}': 1,
        'quantry_jobs_ended_total{reason="completed",status="succeeded",type="import"}': 1,
        'quantry_jobs_ended_total{reason="invalid_input",status="failed",type="import"}': 1,
    }
    # The second finish came from an attempt that no longer held the job.
    assert found["quantry_stale_writes_total"] == 1


async def test_lost_attempts_and_poison_are_counted(api: Api, database_url: str) -> None:
    await api.submit_import()
    lease = await api.claim()
    assert lease is not None
    await api.execute(lease, "finish", outcome="lost", reason="worker_lost", message="killed")
    for _ in range(2):
        assert await api.claim() is not None
        await expire_leases(database_url)
        await api.app.state.sweeper.sweep()
    found = await scrape(api)
    assert found["quantry_attempts_lost_total"] == 3
    assert found['quantry_jobs_ended_total{reason="poison",status="failed",type="import"}'] == 1


async def test_a_stale_heartbeat_is_counted(api: Api) -> None:
    await api.submit_import()
    lease = await api.claim()
    assert lease is not None
    assert (await api.execute(lease | {"attempt": 7}, "heartbeat")).status_code == 409
    assert (await scrape(api))["quantry_stale_writes_total"] == 1


async def test_wakes_that_fail_are_counted_and_hold_up_nobody(api_settings: ApiSettings, database_url: str, api: Api) -> None:
    away = api_settings.model_copy(update={"broker_url": SecretStr("redis://127.0.0.1:1/0")})
    app = build_app(away, StoreSettings(database_url=database_url))
    lone = Api(app, api.database, api.project_id, api.roots, api.clients)
    async with app.router.lifespan_context(app):
        assert await app.state.api.waker.wake("cpu") is False
        assert (await scrape(lone))["quantry_wakes_failed_total"] == 1
        # Another app in the same process counts for itself.
        assert (await scrape(api))["quantry_wakes_failed_total"] == 0


async def test_workers_are_listed_and_counted_while_they_are_alive(api: Api) -> None:
    said = await api[Role.WORKER].put(f"/api/v1/execution/workers/{WORKER}", json=HELLO)
    assert said.status_code == 204, said.text
    await api.submit_import()
    assert await api.claim(WORKER) is not None
    (worker,) = (await api[Role.VIEWER].get("/api/v1/workers")).json()["data"]
    assert (worker["id"], worker["is_alive"], worker["num_slots"], len(worker["job_ids"])) == (WORKER, True, 2, 1)
    assert (await scrape(api))["quantry_workers_alive"] == 1


async def test_the_project_shows_its_limits_and_counts(api: Api) -> None:
    await api.submit_import("one")
    await api.submit_import("two")
    assert await api.claim() is not None
    shown: httpx.Response = await api[Role.VIEWER].get("/api/v1/project")
    assert shown.status_code == 200, shown.text
    project = shown.json()
    assert (project["id"], project["name"]) == (api.project_id, "default")
    assert (project["num_waiting"], project["num_queued"], project["num_running"]) == (0, 1, 1)
    assert project["limits"] == {"share": 1.0, "max_queued": None, "max_running": None}
