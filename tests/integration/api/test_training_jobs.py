"""Fine-tune and merge jobs over HTTP: submitted, refused, in pipelines and by schedules; a worker's part is played by hand."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from typing import Any

from factories.checkpoints import master_contents, write_checkpoint
from factories.store import ADAPTER_RECIPE
from quantry_core.keys import Role
from quantry_core.versions import ManifestFile, SealRequest
from quantry_store.transactions import record_seal, releasable_jobs, release_job

from .conftest import Api, slug


async def make(api: Api, step: str, **draft: Any) -> dict[str, Any]:
    """Claims the next job, which is of that step, and ends it with a version; returns the job as it was claimed."""
    lease = await api.claim()
    assert lease is not None
    assert lease["job"]["step"] == step
    file = ManifestFile(path="model.safetensors", size_bytes=len(step), sha256=sha256(step.encode()).hexdigest())
    async with api.database.begin() as uow:
        request = SealRequest(job_id=lease["job"]["id"], attempt=lease["attempt"], files=[file])
        await record_seal(uow, request, dtype=draft.get("dtype"))
    version = {"model": "bard", "state": "ready", "format": "safetensors", "files": [file.model_dump()], **draft}
    finished = await api.execute(lease, "finish", outcome="succeeded", reason="completed", version=version)
    assert finished.status_code == 200, finished.text
    job: dict[str, Any] = lease["job"]
    return job


def chain(api: Api) -> dict[str, Any]:
    """Returns import -> finetune -> merge -> evaluation and quantization of what was merged."""
    source = write_checkpoint(api.roots / "bard", master_contents())
    steps: dict[str, dict[str, Any]] = {
        "take": {"type": "import", "model": "bard", "source": str(source)},
        "train": {"type": "finetune", "model": "output:take", "training_file": "lessons", "hyperparameters": {"sequence_tokens": 64}},
        "merge": {"type": "merge", "adapters": [{"adapter": "output:train"}], "suffix": "jargon"},
        "measure": {"type": "evaluate", "version": "output:merge", "against": "output:train", "corpora": ["lessons"]},
        "small": {"type": "quantize", "base": "output:merge", "method": "rtn", "quality": None},
        "serve": {"type": "deploy", "deployment": "chat", "version": "output:merge"},
    }
    return {"name": "jargon", "steps": {name: {"spec": spec} for name, spec in steps.items()}}


async def released(api: Api, pipeline_id: str, *waiting: str) -> dict[str, Any]:
    """Returns a pipeline's jobs by step, once those steps are all that wait. The api's own loop may be releasing them too."""
    async with asyncio.timeout(20):
        while True:
            async with api.database.begin() as uow:
                job_ids = await releasable_jobs(uow)
            for job_id in job_ids:
                async with api.database.begin() as uow:
                    await release_job(uow, job_id)
            jobs = (await api[Role.VIEWER].get(f"/api/v1/pipelines/{pipeline_id}")).json()["jobs"]
            if {job["step"] for job in jobs if job["status"] == "waiting"} == set(waiting):
                return {job["step"]: job for job in jobs}
            await asyncio.sleep(0.02)


async def test_a_pipeline_trains_merges_and_goes_on_with_what_was_merged(api: Api) -> None:
    await api.make_dataset("lessons")
    answer = await api[Role.OPERATOR].post("/api/v1/pipelines", json=chain(api))
    assert answer.status_code == 201, answer.text
    assert {job["step"]: job["status"] for job in answer.json()["jobs"]}["train"] == "waiting"
    pipeline_id = answer.json()["id"]
    await make(api, "take", kind="master", dtype="float16")
    await released(api, pipeline_id, "merge", "measure", "small", "serve")
    training = await make(api, "train", kind="adapter", format="peft", recipe=ADAPTER_RECIPE)
    assert [item["role"] for item in training["inputs"]] == ["base", "training"]
    await released(api, pipeline_id, "measure", "small", "serve")
    merging = await make(api, "merge", model="bard-jargon", kind="merged", dtype="float16", recipe={"merged_into": "master"})
    assert [item["role"] for item in merging["inputs"]] == ["adapter", "adapter-base", "base"]
    # Trained on 16-bit weights: nothing follows by itself.
    assert merging["spec"]["quantize"] is None
    shown = await released(api, pipeline_id)
    assert {shown[step]["status"] for step in ("measure", "small", "serve")} <= {"queued", "running"}
    assert [item["role"] for item in shown["measure"]["inputs"]] == ["subject", "reference", "adapter-base", "corpus"]
    version = shown["merge"]["result"]["version_id"]
    assert {shown[step]["inputs"][0]["version_id"] for step in ("measure", "small", "serve")} == {version}


async def test_a_step_cannot_use_what_another_kind_of_job_makes(api: Api) -> None:
    await api.make_dataset("lessons")
    body = chain(api)
    refused: list[tuple[dict[str, Any], str]] = [
        ({"serve": {"type": "deploy", "deployment": "chat", "version": "output:train"}}, "makes an adapter version"),
        ({"merge": {"type": "merge", "adapters": [{"adapter": "output:take"}]}}, "makes a master version; an adapter version is needed"),
        ({"small": {"type": "quantize", "base": "output:train", "method": "rtn"}}, "a master or merged version is needed here"),
    ]
    for changed, words in refused:
        steps = body["steps"] | {name: {"spec": spec} for name, spec in changed.items()}
        answer = await api[Role.OPERATOR].post("/api/v1/pipelines", json=body | {"steps": steps})
        assert (answer.status_code, slug(answer)) == (422, "invalid-input"), answer.text
        assert words in answer.json()["detail"]
        assert answer.json()["errors"][0]["field"].startswith("steps.")


async def test_what_cannot_be_trained_or_merged_is_refused_with_its_field(api: Api) -> None:
    master = await api.make_master()
    await api.make_dataset("lessons")
    finetune = {"type": "finetune", "model": master, "training_file": "lessons"}
    for spec, field in [
        (finetune | {"method": {"type": "dpo"}}, "spec.training_file"),
        (finetune | {"validation_file": "lessons"}, "spec.validation_file"),
        (finetune | {"adapter": None, "base_precision": "nf4"}, "spec"),
        ({"type": "merge", "adapters": [{"adapter": master}]}, "spec.adapters"),
    ]:
        answer = await api[Role.OPERATOR].post("/api/v1/jobs", json={"spec": spec})
        assert (answer.status_code, slug(answer)) == (422, "invalid-input"), answer.text
        assert field in answer.json()["errors"][0]["field"], answer.text


async def test_a_schedule_trains_again_and_again(api: Api) -> None:
    await api.make_dataset("lessons")
    template = {"kind": "pipeline", "submission": chain(api)}
    body = {"name": "nightly", "cron": "0 3 * * *", "template": template}
    answer = await api[Role.OPERATOR].post("/api/v1/schedules", json=body)
    assert answer.status_code == 201, answer.text
    broken = chain(api)
    broken["steps"]["merge"]["spec"]["adapters"] = [{"adapter": "output:take"}]
    answer = await api[Role.OPERATOR].post(
        "/api/v1/schedules", json=body | {"name": "broken", "template": template | {"submission": broken}}
    )
    assert (answer.status_code, slug(answer)) == (422, "invalid-input"), answer.text
