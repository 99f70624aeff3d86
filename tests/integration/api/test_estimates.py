"""Preflight over HTTP: headers from a real object store, corrections from real jobs, and what is not known."""

from __future__ import annotations

import asyncio
from threading import Event
from typing import Any

import pytest

from factories.checkpoints import write_checkpoint
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_core.estimates import CheckpointFacts
from quantry_core.jobs import JobSubmission
from quantry_core.keys import Role

from .conftest import Api, slug
from .estimating import HIDDEN, ROWS, VOCABULARY, contents, estimate, make_master, make_quantized, quantize


@pytest.fixture
def api_blobs(blob_settings: BlobSettings) -> BlobSettings:
    store = MinioStore(blob_settings)
    for bucket in (blob_settings.vault_bucket, blob_settings.staging_bucket):
        store.ensure_bucket(bucket)
    return blob_settings


async def test_a_quantize_job_is_estimated_from_the_headers_in_the_vault(api: Api, api_blobs: BlobSettings) -> None:
    await make_master(api, api_blobs)
    await api.make_dataset()
    found = await estimate(api, quantize())
    packed = 2 * (ROWS * HIDDEN // 2 + ROWS * HIDDEN // 128 * 2 + 16)
    kept = (VOCABULARY * HIDDEN + HIDDEN) * 2
    header_bytes = found["result_bytes"] - packed - kept
    assert 0 < header_bytes < 1500
    assert found["peak_ram_bytes"] > 500 * 1024**2
    assert found["peak_vram_bytes"] is None
    assert 0 < found["minutes"] < 10
    assert (found["key"], found["queue"], found["notes"], found["num_earlier_jobs"]) == ("quantize/gptq/cpu", "cpu", [], 0)
    on_gpu = await estimate(api, quantize(), resource="gpu")
    assert on_gpu["queue"] == "gpu"
    assert on_gpu["peak_vram_bytes"] > 0


async def test_every_type_of_job_is_estimated(api: Api, api_blobs: BlobSettings) -> None:
    await make_master(api, api_blobs)
    await api.make_dataset()
    weights_bytes = len(contents()["model.safetensors"])
    imported = await estimate(api, {"type": "import", "model": "more", "source": str(api.roots / "bard")})
    assert imported["result_bytes"] == weights_bytes
    evaluated = await estimate(api, {"type": "evaluate", "version": "bard", "against": "bard@1", "corpora": ["shakespeare"]})
    assert (evaluated["result_bytes"], evaluated["queue"]) == (None, "cpu")
    assert evaluated["minutes"] > 0
    deployed = await estimate(api, {"type": "deploy", "deployment": "bard", "version": "bard"})
    assert deployed["peak_ram_bytes"] > weights_bytes
    assert (deployed["queue"], deployed["notes"]) == (None, [])


async def test_the_estimate_is_kept_with_the_job_and_compared_with_what_happened(api: Api, api_blobs: BlobSettings) -> None:
    job = await make_master(api, api_blobs)
    assert job["estimate"]["key"] == "import/folder/cpu"
    assert job["estimate"]["result_bytes"] == len(contents()["model.safetensors"])
    errors = job["result"]["estimate_errors"]
    assert errors["result_bytes"] == 1
    assert errors["minutes"] == pytest.approx(1 / job["estimate"]["minutes"])


async def test_earlier_jobs_correct_later_estimates(api: Api, api_blobs: BlobSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quantry_api.estimates.estimator.CORRECTIONS_KEPT_S", 0.0)
    for number in range(3):
        await make_master(api, api_blobs, f"model-{number}")
    found = await estimate(api, {"type": "import", "model": "more", "source": str(api.roots / "model-0")})
    assert found["num_earlier_jobs"] == 3
    assert found["corrections"]["result_bytes"] == 1
    # Each took a minute, which is far more than twenty times what was estimated: the correction is bounded.
    assert found["corrections"]["minutes"] == 20
    assert found["minutes"] == pytest.approx(20 * found["uncorrected"]["minutes"])
    assert found["peak_ram_bytes"] == pytest.approx(10**8, rel=1e-6)


async def test_the_output_of_a_job_is_estimated_through_that_job(api: Api) -> None:
    await api.make_dataset()
    source = write_checkpoint(api.roots / "bard", contents())
    imported = await api.submit(type="import", model="bard", source=str(source))
    found = await estimate(api, quantize(base=f"output:{imported['id']}"))
    assert found["result_bytes"] < len(contents()["model.safetensors"])
    quantized = await api.submit(**quantize(base=f"output:{imported['id']}"))
    evaluated = await estimate(api, {"type": "evaluate", "version": f"output:{quantized['id']}", "corpora": ["shakespeare"]})
    assert evaluated["peak_ram_bytes"] > 0
    assert evaluated["notes"] == []


async def test_facts_of_one_submission_are_used_for_the_next(api: Api) -> None:
    await api.make_dataset()
    source = write_checkpoint(api.roots / "bard", contents())
    estimator = api.app.state.api.estimator
    first = JobSubmission.model_validate({"spec": {"type": "import", "model": "bard", "source": str(source)}})
    imported = await estimator.preflight(api.project_id, first)
    assert isinstance(imported.output.facts, CheckpointFacts)
    second = JobSubmission.model_validate({"spec": quantize(base="output:fetch")})
    quantized = await estimator.preflight(api.project_id, second, outputs={"fetch": imported.output})
    assert quantized.placement.queue == "cpu"
    assert quantized.placement.estimate.result_bytes == quantized.output.facts.weights_bytes


@pytest.mark.parametrize(
    ("spec", "status", "problem"),
    [
        (quantize(base="nobody"), 404, "unknown-model"),
        (quantize(base="bard@9"), 404, "unknown-version"),
        (quantize(base="ver_" + "0" * 32), 404, "unknown-version"),
        (quantize(calibration={"datasets": ["nothing"]}), 404, "unknown-dataset"),
        (quantize(base="output:job_" + "0" * 32), 404, "unknown-job"),
        (quantize(method="magic"), 422, "unknown-method"),
        (quantize(method="eetq", calibration=None), 422, "invalid-input"),
        # The rest of these only its headers tell: its rows are no whole blocks of 256, ...
        (quantize(method="gguf", calibration=None), 422, "invalid-input"),
        (quantize(keep_16bit=["*.dwon_proj"]), 422, "invalid-input"),
        (quantize(overrides=[{"modules": ["*.q_proj"], "scheme": "W8A16"}]), 422, "invalid-input"),
        (quantize(overrides=[{"modules": ["re:.*down_proj"], "scheme": "W8A16"}]), 422, "invalid-input"),
        (quantize(ignore=["*"]), 422, "invalid-input"),
        (quantize(calibration={"datasets": ["shakespeare"], "length_tokens": 4096}), 422, "invalid-input"),
        ({"type": "evaluate", "version": "nobody", "corpora": ["shakespeare"]}, 404, "unknown-model"),
        ({"type": "deploy", "deployment": "bard", "version": "nobody"}, 404, "unknown-model"),
        ({"type": "import", "model": "bard", "source": "/etc"}, 422, "source-refused"),
    ],
)
async def test_what_is_not_there_is_refused_as_at_submission(
    api: Api, api_blobs: BlobSettings, spec: dict[str, Any], status: int, problem: str
) -> None:
    await make_master(api, api_blobs)
    await api.make_dataset()
    estimated = await api[Role.VIEWER].post("/api/v1/jobs/estimate", json={"spec": spec})
    submitted = await api[Role.OPERATOR].post("/api/v1/jobs", json={"spec": spec})
    assert (estimated.status_code, slug(estimated)) == (status, problem)
    assert (submitted.status_code, slug(submitted)) == (status, problem)


async def test_a_pattern_that_names_no_module_is_told_with_its_field_and_what_is_near(api: Api, api_blobs: BlobSettings) -> None:
    await make_master(api, api_blobs)
    await api.make_dataset()
    body = {"spec": quantize(overrides=[{"modules": ["*.dwon_proj"], "scheme": "W8A16"}])}
    refused = (await api[Role.OPERATOR].post("/api/v1/jobs", json=body)).json()
    assert [problem["field"] for problem in refused["errors"]] == ["spec.overrides.0.modules"]
    assert "'*.dwon_proj' names no module of this model; near it are model.layers.0.mlp.down_proj" in refused["detail"]


async def test_a_recalibration_is_estimated_and_checked_as_its_recipe(api: Api, api_blobs: BlobSettings) -> None:
    await make_master(api, api_blobs)
    await api.make_dataset()
    serving = await make_quantized(api)
    again = {"type": "recalibrate", "serving": serving, "datasets": ["shakespeare"], "corpora": ["shakespeare"]}
    alone, found = await estimate(api, quantize(quality=None)), await estimate(api, again)
    assert (found["key"], found["queue"], found["notes"]) == ("recalibrate/gptq/cpu", "cpu", [])
    assert found["result_bytes"] == alone["result_bytes"]
    assert found["peak_ram_bytes"] >= alone["peak_ram_bytes"]
    assert found["minutes"] > alone["minutes"]
    job = await api.submit(**again)
    assert job["estimate"]["peak_ram_bytes"] == found["peak_ram_bytes"]


async def test_a_recipe_that_cannot_be_repeated_is_refused_at_once(
    api: Api, api_blobs: BlobSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_master(api, api_blobs)
    await api.make_dataset()
    # As if a release before this one had taken a pattern that names nothing.
    with monkeypatch.context() as earlier:
        earlier.setattr("quantry_api.estimates.estimator.check_quantizable", lambda *_: None)
        serving = await make_quantized(api, keep_16bit=["*.dwon_proj"])
    again = {"type": "recalibrate", "serving": serving, "datasets": ["shakespeare"], "corpora": ["shakespeare"]}
    refused = await api[Role.OPERATOR].post("/api/v1/jobs", json={"spec": again})
    assert (refused.status_code, slug(refused)) == (422, "invalid-input"), refused.text
    assert "cannot be repeated: keep_16bit: '*.dwon_proj' names no module" in refused.json()["detail"]
    assert refused.json()["errors"][0]["field"] == "spec.serving"


async def test_others_are_served_while_a_model_is_looked_at(api: Api, api_blobs: BlobSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    await make_master(api, api_blobs)
    await api.make_dataset()
    begun, go_on = Event(), Event()

    def slowly(*_: object) -> None:
        begun.set()
        assert go_on.wait(30)

    monkeypatch.setattr("quantry_api.estimates.estimator.check_quantizable", slowly)
    slow = asyncio.create_task(estimate(api, quantize()))
    assert await asyncio.to_thread(begun.wait, 30)
    assert (await estimate(api, {"type": "evaluate", "version": "bard", "corpora": ["shakespeare"]}))["queue"] == "cpu"
    go_on.set()
    assert (await slow)["queue"] == "cpu"


async def test_the_hub_is_not_asked(api: Api) -> None:
    found = await estimate(api, {"type": "import", "model": "bard", "source": "hf:owner/name"})
    assert (found["result_bytes"], found["minutes"], found["queue"]) == (None, None, "cpu")
    assert "was not looked at" in found["notes"][0]


async def test_estimating_needs_a_viewer(api: Api) -> None:
    body = {"spec": {"type": "import", "model": "bard", "source": "hf:owner/name"}}
    assert (await api[Role.WORKER].post("/api/v1/jobs/estimate", json=body)).status_code == 403
