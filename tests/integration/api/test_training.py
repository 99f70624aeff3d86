"""Training jobs over HTTP: checkpoints reported and listed, curves shown."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import pytest

from quantry_core.jobs import FinetuneSpec, JobSubmission
from quantry_core.keys import Identity, Role
from quantry_core.vault import CheckpointSeal
from quantry_core.versions import ManifestFile
from quantry_store.transactions import record_checkpoint_seal, submit_job

from .conftest import Api, slug

NUM_STEPS = 300


@pytest.fixture
async def lease(api: Api) -> dict[str, Any]:
    """The first attempt of a training job."""
    spec = FinetuneSpec(model=await api.make_master(), training_file=await api.make_dataset())
    who = Identity(key_id="key", project_id=api.project_id, role=Role.OPERATOR)
    async with api.database.begin() as uow:
        await submit_job(uow, who, JobSubmission(spec=spec))
    claimed = await api.claim()
    assert claimed is not None
    return claimed


def state(step: int) -> ManifestFile:
    content = f"state of step {step}"
    return ManifestFile(path="optimizer.pt", size_bytes=len(content), sha256=sha256(content.encode()).hexdigest())


async def report(api: Api, lease: dict[str, Any], step: int) -> Any:
    """Reports a checkpoint over HTTP that the registry has sealed."""
    seal = CheckpointSeal(job_id=lease["job"]["id"], attempt=lease["attempt"], step=step, files=[state(step)])
    async with api.database.begin() as uow:
        await record_checkpoint_seal(uow, seal)
    return await api.execute(lease, "checkpoints", step=step, files=[state(step).model_dump()], metrics={"loss": 3.5})


async def tell(api: Api, lease: dict[str, Any], offset: int, *points: dict[str, Any]) -> Any:
    events = [{"kind": "metrics", "data": point} for point in points]
    return await api.execute(lease, "events", offset=offset, events=events)


async def test_a_lost_job_goes_on_from_its_newest_checkpoint(api: Api, lease: dict[str, Any]) -> None:
    for step in (10, 20, 30):
        assert (await report(api, lease, step)).status_code == 204
    listed = await api[Role.VIEWER].get(f"/api/v1/jobs/{lease['job']['id']}/checkpoints")
    rows = [(one["step"], one["attempt"], one["has_files"], one["metrics"]) for one in listed.json()["data"]]
    assert rows == [(30, 1, True, {"loss": 3.5}), (20, 1, True, {"loss": 3.5}), (10, 1, False, {"loss": 3.5})]
    assert (await api.execute(lease, "finish", outcome="lost", reason="worker_lost")).status_code == 200
    again = await api.claim()
    assert again is not None
    assert (again["inputs"][-1]["role"], again["inputs"][-1]["ref"]) == ("checkpoint", "step 30")
    assert again["inputs"][-1]["files"] == [state(30).model_dump()]
    assert slug(await api.execute(lease, "checkpoints", step=40, files=[state(40).model_dump()])) == "stale-attempt"


async def test_a_report_that_was_not_sealed_is_refused(api: Api, lease: dict[str, Any]) -> None:
    assert slug(await api.execute(lease, "checkpoints", step=10, files=[state(10).model_dump()])) == "seal-refused"
    for step, files in ((-1, [state(1).model_dump()]), (2**31, [state(1).model_dump()]), (1, [])):
        assert (await api.execute(lease, "checkpoints", step=step, files=files)).status_code == 422


async def test_a_curve_is_shown_in_one_line(api: Api, lease: dict[str, Any]) -> None:
    for offset in range(0, NUM_STEPS, 100):
        points = [{"step": step, "loss": 4.0 - step / NUM_STEPS} for step in range(offset + 1, offset + 101)]
        assert (await tell(api, lease, offset, *points)).status_code == 204
    await api.execute(lease, "finish", outcome="lost", reason="worker_lost")
    again = await api.claim()
    assert again is not None
    assert (await tell(api, again, 0, {"step": 201, "loss": 9.0}, {"step": 201, "eval_loss": 3.0})).status_code == 204
    path = f"/api/v1/jobs/{lease['job']['id']}/curve"
    curve = (await api[Role.VIEWER].get(path)).json()
    assert (curve["object"], curve["num_points"]) == ("job.curve", 201)
    assert [point["step"] for point in curve["data"]] == list(range(1, 202))
    assert curve["data"][-1] | {"created_at": ""} == {
        "step": 201,
        "attempt": 2,
        "values": {"loss": 9.0, "eval_loss": 3.0},
        "created_at": "",
    }
    few = (await api[Role.VIEWER].get(path, params={"max_points": 10})).json()
    assert (few["num_points"], len(few["data"]), few["data"][-1]["step"]) == (201, 10, 201)
    assert (await api[Role.VIEWER].get(path, params={"max_points": 1})).status_code == 422


async def test_what_is_no_point_is_refused(api: Api, lease: dict[str, Any]) -> None:
    answer = await tell(api, lease, 0, {"step": 1, "loss": "low"})
    assert slug(answer) == "invalid-input"
    assert "loss is a finite number" in answer.json()["detail"]


async def test_a_job_that_does_not_train_has_neither(api: Api) -> None:
    job = await api.submit_import()
    assert (await api[Role.VIEWER].get(f"/api/v1/jobs/{job['id']}/checkpoints")).json() == {"data": []}
    assert (await api[Role.VIEWER].get(f"/api/v1/jobs/{job['id']}/curve")).json()["data"] == []
    for what in ("checkpoints", "curve"):
        assert slug(await api[Role.VIEWER].get(f"/api/v1/jobs/job_{'0' * 32}/{what}")) == "unknown-job"
