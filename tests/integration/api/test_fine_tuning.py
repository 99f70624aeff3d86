"""OpenAI's fine-tuning API, asked by the real client through a real gateway; the worker is played by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn
from fastapi import FastAPI

from factories.gateway import gateway_settings, running_gateway
from factories.trained import adapter_draft
from quantry_core.jobs import FinetuneSpec
from quantry_core.keys import Identity, Role
from quantry_core.training import served_name
from quantry_core.vault import CheckpointSeal
from quantry_core.versions import ManifestFile, SealRequest
from quantry_store.transactions import (
    begin_rollout,
    delete_version,
    promote_rollout,
    record_checkpoint_seal,
    record_seal,
    remove_version,
)

from .conftest import Api, slug


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[str]:
    """Serves an app that has started up already, and yields its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, lifespan="off", log_config=None))
    task = asyncio.create_task(server.serve())
    try:
        while not server.started:
            if task.done():
                task.result()
            await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def client(api: Api, tmp_path: Path) -> AsyncIterator[openai.AsyncOpenAI]:
    secret = str(api[Role.OPERATOR].headers["authorization"]).removeprefix("Bearer ")
    async with (
        served(api.app) as api_url,
        running_gateway(gateway_settings(tmp_path, api_url)) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=secret, max_retries=0) as opened,
    ):
        yield opened


async def begin(api: Api, job_id: str) -> dict[str, Any]:
    """Returns the lease of the one job that is queued."""
    lease = await api.claim()
    assert lease is not None
    assert lease["job"]["id"] == job_id
    return lease


async def finish(api: Api, lease: dict[str, Any], model: str, **metrics: Any) -> None:
    """Ends an attempt with an adapter."""
    draft = adapter_draft(FinetuneSpec.model_validate(lease["job"]["spec"]), model)
    async with api.database.begin() as uow:
        await record_seal(uow, SealRequest(job_id=lease["job"]["id"], attempt=lease["attempt"], files=draft.files), dtype=None)
    done = await api.execute(
        lease, "finish", outcome="succeeded", reason="completed", version=draft.model_dump(mode="json"), metrics=metrics
    )
    assert done.status_code == 200, done.text


async def reach(api: Api, lease: dict[str, Any], step: int) -> None:
    """Records a checkpoint of a running attempt."""
    content = f"step {step}".encode()
    files = [ManifestFile(path="state.json", size_bytes=len(content), sha256=sha256(content).hexdigest())]
    async with api.database.begin() as uow:
        await record_checkpoint_seal(uow, CheckpointSeal(job_id=lease["job"]["id"], attempt=lease["attempt"], step=step, files=files))
    body = {"step": step, "files": [file.model_dump() for file in files], "metrics": {"loss": 3.0 - step / 10}}
    response = await api.execute(lease, "checkpoints", **body)
    assert response.status_code == 204, response.text


async def test_a_job_from_its_submission_to_its_model(api: Api, client: openai.AsyncOpenAI) -> None:
    await api.make_master()
    file_id = await api.make_dataset("jargon")
    made = await client.fine_tuning.jobs.create(
        model="bard@1",
        training_file=file_id,
        seed=3,
        suffix="jargon",
        metadata={"for": "the test"},
        method={
            "type": "supervised",
            "supervised": {"hyperparameters": {"n_epochs": 2, "batch_size": "auto", "learning_rate_multiplier": 0.5}},
        },
    )
    assert (made.object, made.status, made.model, made.seed) == ("fine_tuning.job", "queued", "bard@1", 3)
    assert (made.training_file, made.validation_file, made.fine_tuned_model, made.finished_at) == (file_id, None, None, None)
    assert made.hyperparameters.model_dump() == {"n_epochs": 2, "batch_size": 8, "learning_rate_multiplier": 0.5}
    assert made.metadata == {"for": "the test"}
    assert made.method is not None
    assert made.method.type == "supervised"
    spec = (await api.show({"id": made.id}))["spec"]
    assert (spec["suffix"], spec["seed"], spec["hyperparameters"]["learning_rate"]) == ("jargon", 3, 1e-4)

    lease = await begin(api, made.id)
    events = [{"kind": "metrics", "data": {"step": n, "loss": 3.0 - n / 10, "learning_rate": 1e-4}} for n in (1, 2)]
    told = await api.execute(lease, "events", offset=0, events=[{"kind": "note", "data": {"text": "two rows are too long"}}, *events])
    assert told.status_code == 204, told.text
    for step in (10, 20, 30):
        await reach(api, lease, step)
    assert (await client.fine_tuning.jobs.retrieve(made.id)).status == "running"
    await finish(api, lease, "bard-jargon", num_trained_tokens=1234)

    ended = await client.fine_tuning.jobs.retrieve(made.id)
    assert (ended.status, ended.fine_tuned_model, ended.trained_tokens, ended.error) == ("succeeded", "bard-jargon@1", 1234, None)
    assert ended.finished_at is not None
    assert ended.finished_at >= ended.created_at

    # Two at a time, so that the client follows the pages by itself.
    seen = [event async for event in client.fine_tuning.jobs.list_events(made.id, limit=2)]
    assert [(event.type, event.level) for event in seen if event.type == "metrics"] == [("metrics", "info")] * 2
    figures: list[Any] = [event.data for event in seen if event.type == "metrics"]
    assert [(one["step"], one["train_loss"], one["learning_rate"]) for one in figures] == [(2, 2.8, 1e-4), (1, 2.9, 1e-4)]
    words = [event.message for event in reversed(seen)]
    assert words[0].startswith("The job is queued.")
    assert "two rows are too long" in words
    assert words[-1].startswith("The job succeeded.")
    assert len({event.id for event in seen}) == len(seen)

    checkpoints = [one async for one in client.fine_tuning.jobs.checkpoints.list(made.id, limit=2)]
    assert [(one.step_number, one.metrics.train_loss, one.fine_tuning_job_id) for one in checkpoints] == [
        (30, 0.0, made.id),
        (20, 1.0, made.id),
        (10, 2.0, made.id),
    ]


async def test_lists_are_of_fine_tune_jobs_alone_newest_first(api: Api, client: openai.AsyncOpenAI) -> None:
    await api.make_master()
    file_id = await api.make_dataset("jargon")
    made = [(await client.fine_tuning.jobs.create(model="bard", training_file=file_id, seed=seed)).id for seed in range(3)]
    await api.submit_import("other")
    assert [job.id async for job in client.fine_tuning.jobs.list(limit=2)] == made[::-1]
    first = await client.fine_tuning.jobs.list(limit=2)
    assert ([job.id for job in first.data], first.has_more) == (made[:0:-1], True)


async def test_a_deployment_as_the_model_gets_the_adapter(api: Api, client: openai.AsyncOpenAI) -> None:
    version_id = await api.make_master()
    file_id = await api.make_dataset("jargon")
    await api.submit(type="deploy", deployment="chat", version="bard", engine={"max_adapters": 1})
    with pytest.raises(openai.BadRequestError, match="nothing is served as 'chat' yet") as early:
        await client.fine_tuning.jobs.create(model="chat", training_file=file_id)
    assert early.value.param == "model"
    async with api.database.begin() as uow:
        rollout = (await uow.deployments.get(api.project_id, "chat")).active_rollout
    assert rollout is not None
    for step in (begin_rollout, promote_rollout):
        async with api.database.begin() as uow:
            await step(uow, rollout.id)

    preferences: Any = {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.2}}}
    with pytest.raises(openai.BadRequestError, match="prefer") as of_wrong_kind:
        await client.fine_tuning.jobs.create(model="chat", training_file=file_id, method=preferences)
    assert of_wrong_kind.value.param == "training_file"
    made = await client.fine_tuning.jobs.create(model="chat", training_file=file_id, suffix="jargon")
    assert made.model == "chat"
    lease = await begin(api, made.id)
    assert lease["job"]["spec"]["model"] == version_id
    await finish(api, lease, "bard-jargon")
    ended = await client.fine_tuning.jobs.retrieve(made.id)
    name = served_name("chat", "jargon", made.id)
    assert ended.fine_tuned_model == name
    async with api.database.begin() as uow:
        assert [adapter.name for adapter in (await uow.deployments.get(api.project_id, "chat")).adapters] == [name]

    with pytest.raises(openai.BadRequestError, match="takes 1 adapters and has 1") as full:
        await client.fine_tuning.jobs.create(model="chat", training_file=file_id, suffix="again")
    assert full.value.param == "model"


async def test_a_model_that_cannot_be_called_any_more_is_not_named(api: Api, client: openai.AsyncOpenAI) -> None:
    await api.make_master()
    file_id = await api.make_dataset("jargon")
    await api.submit(type="deploy", deployment="chat", version="bard", engine={"max_adapters": 1})
    async with api.database.begin() as uow:
        rollout = (await uow.deployments.get(api.project_id, "chat")).active_rollout
    assert rollout is not None
    for step in (begin_rollout, promote_rollout):
        async with api.database.begin() as uow:
            await step(uow, rollout.id)
    made = await client.fine_tuning.jobs.create(model="chat", training_file=file_id, suffix="jargon")
    await finish(api, await begin(api, made.id), "bard-jargon")
    name = served_name("chat", "jargon", made.id)
    assert (await client.fine_tuning.jobs.retrieve(made.id)).fine_tuned_model == name

    assert (await api[Role.OPERATOR].delete(f"/api/v1/deployments/chat/adapters/{name}")).status_code == 204
    assert [job.fine_tuned_model async for job in client.fine_tuning.jobs.list()] == ["bard-jargon@1"]

    async with api.database.begin() as uow:
        version = await uow.versions.resolve(api.project_id, "bard-jargon@1", kinds=None)
        await delete_version(uow, version.id, who=Identity(key_id="key_test", project_id=api.project_id, role=Role.OPERATOR))
    assert (await client.fine_tuning.jobs.retrieve(made.id)).fine_tuned_model is None, "it could still be restored, and not be called"
    async with api.database.begin() as uow:
        assert await remove_version(uow, version, -1.0)
    assert [(job.id, job.fine_tuned_model) async for job in client.fine_tuning.jobs.list()] == [(made.id, None)]
    assert (await client.fine_tuning.jobs.retrieve(made.id)).status == "succeeded"
    assert (await client.fine_tuning.jobs.cancel(made.id)).fine_tuned_model is None
    assert (await client.fine_tuning.jobs.list_events(made.id)).data


async def test_cancelled_and_failed_jobs_say_so(api: Api, client: openai.AsyncOpenAI) -> None:
    await api.make_master()
    file_id = await api.make_dataset("jargon")
    waiting = await client.fine_tuning.jobs.create(model="bard", training_file=file_id)
    assert (await client.fine_tuning.jobs.cancel(waiting.id)).status == "cancelled"
    assert (await client.fine_tuning.jobs.cancel(waiting.id)).status == "cancelled"
    failing = await client.fine_tuning.jobs.create(model="bard", training_file=file_id)
    lease = await begin(api, failing.id)
    message = "the loss became nan at step 7; the last good checkpoint is of step 5"
    done = await api.execute(lease, "finish", outcome="failed", reason="diverged", message=message)
    assert done.status_code == 200, done.text
    failed = await client.fine_tuning.jobs.retrieve(failing.id)
    assert failed.status == "failed"
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == ("diverged", message)
    newest = (await client.fine_tuning.jobs.list_events(failing.id, limit=1)).data[0]
    assert (newest.level, message in newest.message) == ("error", True)


async def test_bad_requests_are_named_in_openais_shape(api: Api, client: openai.AsyncOpenAI) -> None:
    await api.make_master()
    file_id = await api.make_dataset("jargon")
    given: dict[str, Any] = {"model": "bard", "training_file": file_id}
    cases: list[tuple[dict[str, Any], str | None, str]] = [
        ({"integrations": [{"type": "wandb", "wandb": {"project": "x"}}]}, "integrations", "not permitted"),
        ({"hyperparameters": {"epochs": 3}}, "hyperparameters.epochs", "not permitted"),
        ({"hyperparameters": {"learning_rate_multiplier": 1e-323}}, "hyperparameters.learning_rate_multiplier", "greater than or equal"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "greater than or equal to 1"),
        ({"method": {"type": "reinforcement"}}, "method.type", "'supervised' or 'dpo'"),
        ({"method": {"type": "dpo", "supervised": {}}}, "method", "the type is dpo"),
        ({"method": {"type": "dpo"}, "hyperparameters": {"n_epochs": 2}}, None, "beside method"),
        ({"suffix": "No Such Name"}, "suffix", "match"),
        ({"training_file": "dat_" + "0" * 32}, None, "no dataset"),
        ({"model": "nobody"}, None, "nobody"),
    ]
    for changes, field, words in cases:
        with pytest.raises((openai.BadRequestError, openai.NotFoundError), match=words) as refused:
            await client.post("/fine_tuning/jobs", body=given | changes, cast_to=object)
        error: Any = refused.value.body
        assert error["type"] == "invalid_request_error", changes
        assert field is None or error["param"].startswith(field), (changes, error)
    with pytest.raises(openai.NotFoundError, match="there is no job"):
        await client.fine_tuning.jobs.retrieve("ftjob-abc")
    job = await client.fine_tuning.jobs.create(**given, integrations=[])
    with pytest.raises(openai.BadRequestError, match="begin with ftevent-"):
        await client.fine_tuning.jobs.list_events(job.id, after="evt_1")
    with pytest.raises(openai.BadRequestError, match="'order' is not known here"):
        await client.fine_tuning.jobs.list(extra_query={"order": "asc"})
    imported = await api.submit_import("other")
    with pytest.raises(openai.NotFoundError, match="is of type import"):
        await client.fine_tuning.jobs.retrieve(imported["id"])


async def test_the_same_request_with_a_key_makes_one_job(api: Api, client: openai.AsyncOpenAI) -> None:
    await api.make_master()
    file_id = await api.make_dataset("jargon")
    headers = {"Idempotency-Key": "once"}
    first, second = [
        (await client.fine_tuning.jobs.create(model="bard", training_file=file_id, extra_headers=headers)).id for _ in range(2)
    ]
    assert first == second


async def test_what_a_deployment_could_not_serve_is_refused_before_it_is_trained(api: Api) -> None:
    await api.make_master()
    await api.make_dataset("jargon")
    spec = {"type": "finetune", "model": "bard", "training_file": "jargon", "deployment": "chat"}
    missing = await api[Role.OPERATOR].post("/api/v1/jobs", json={"spec": spec})
    assert (missing.status_code, slug(missing)) == (404, "unknown-deployment")
    await api.submit(type="deploy", deployment="chat", version="bard")
    pending = await api[Role.OPERATOR].post("/api/v1/jobs", json={"spec": spec})
    assert (pending.status_code, pending.json()["errors"][0]["field"]) == (422, "spec.deployment")
