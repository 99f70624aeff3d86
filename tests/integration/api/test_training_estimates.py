"""Preflight of fine-tune and merge jobs over HTTP: what fits, what would, and what headers tell early."""

from __future__ import annotations

from typing import Any

import pytest

from factories.trained import adapter_draft
from quantry_api.settings import ApiSettings
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_core.jobs import FinetuneSpec, parse_queues
from quantry_core.keys import Role
from quantry_core.versions import SealRequest
from quantry_store.transactions import record_seal

from .conftest import Api, slug
from .estimating import estimate, make_master, make_quantized

MIB = 1024**2


@pytest.fixture
def api_settings(api_settings: ApiSettings) -> ApiSettings:
    return api_settings.model_copy(update={"queues": parse_queues("cpu=700MiB,cpu-large=1GiB,gpu=640MiB")})


@pytest.fixture
def api_blobs(blob_settings: BlobSettings) -> BlobSettings:
    store = MinioStore(blob_settings)
    for bucket in (blob_settings.vault_bucket, blob_settings.staging_bucket):
        store.ensure_bucket(bucket)
    return blob_settings


def finetune(**changes: Any) -> dict[str, Any]:
    return {"type": "finetune", "model": "bard", "training_file": "jargon"} | changes


def large(**changes: Any) -> dict[str, Any]:
    return finetune(hyperparameters={"batch_size": 64, "sequence_tokens": 2048} | changes)


async def refused(api: Api, spec: dict[str, Any], **options: Any) -> tuple[str, str]:
    """Returns the field and the sentence of a submission that is not taken."""
    response = await api[Role.OPERATOR].post("/api/v1/jobs", json={"spec": spec, **options})
    assert (response.status_code, slug(response)) == (422, "invalid-input"), response.text
    [problem] = response.json()["errors"]
    return problem["field"], problem["message"]


async def test_a_job_goes_to_the_smallest_queue_that_it_fits(api: Api, api_blobs: BlobSettings) -> None:
    await make_master(api, api_blobs)
    await api.make_dataset("jargon")
    small = await estimate(api, finetune(hyperparameters={"batch_size": 1, "sequence_tokens": 64}))
    assert (small["queue"], small["key"]) == ("cpu", "finetune/supervised/cpu")
    (note,) = small["notes"]
    assert note.startswith("The estimate assumes ")
    assert "bytes of the training file" in note
    assert small["result_bytes"] > 4 * 16 * (128 + 256) * 2
    assert small["minutes"] > 0
    medium = await estimate(api, finetune(hyperparameters={"batch_size": 8, "sequence_tokens": 512}))
    assert medium["queue"] == "cpu-large"
    on_gpu = await estimate(api, finetune(hyperparameters={"batch_size": 1, "sequence_tokens": 64}), resource="gpu")
    assert 600 * MIB < on_gpu["peak_vram_bytes"] < 640 * MIB


async def test_a_job_that_fits_no_queue_is_told_what_would(api: Api, api_blobs: BlobSettings) -> None:
    await make_master(api, api_blobs)
    await api.make_dataset("jargon")
    field, sentence = await refused(api, large())
    assert field == "spec"
    assert "the largest queue for cpu, cpu-large, has 1.0 GiB; it would fit with batch_size " in sentence
    [proposed] = [int(words.removeprefix("batch_size ")) for words in sentence.split("with ")[1].split(", or ") if "batch_size" in words]
    taken = await api.submit(**large(batch_size=proposed))
    assert taken["queue"] == "cpu-large"
    assert (await refused(api, large(batch_size=2 * proposed)))[0] == "spec"

    noted = await estimate(api, large())
    assert (noted["queue"], noted["notes"][1:]) == (None, [sentence])
    named = await api[Role.OPERATOR].post("/api/v1/jobs", json={"spec": large(), "queue": "cpu-large"})
    assert named.status_code == 201, named.text


async def test_a_job_is_held_to_its_own_limit(api: Api, api_blobs: BlobSettings) -> None:
    await make_master(api, api_blobs)
    await api.make_dataset("jargon")
    limits = {"memory_bytes": 800 * MIB}
    field, sentence = await refused(api, large(), limits=limits, queue="cpu-large")
    assert field == "limits.memory_bytes"
    assert "its own limit is 0.8 GiB; it would fit with batch_size " in sentence
    assert (await estimate(api, large(), limits=limits, queue="cpu-large"))["notes"][1:] == [sentence]
    field, sentence = await refused(api, large(), limits={"memory_bytes": 100 * MIB}, queue="cpu-large")
    assert "take a smaller model" in sentence


async def test_what_headers_tell_is_refused_at_once(api: Api, api_blobs: BlobSettings) -> None:
    await make_master(api, api_blobs)
    await api.make_dataset("jargon")
    field, sentence = await refused(api, finetune(adapter={"target_modules": ["up_proj", "q_proj"]}))
    assert field == "spec.adapter.target_modules"
    assert sentence == "no linear module of the model is called 'q_proj'; there are down_proj, up_proj"
    field, sentence = await refused(api, finetune(adapter={"rank": 129}))
    assert (field, "rank 129 is more than the 128" in sentence) == ("spec.adapter.rank", True)
    too_long = await refused(api, finetune(hyperparameters={"sequence_tokens": 2049}))
    assert too_long == ("spec.hyperparameters.sequence_tokens", "sequence_tokens is 2049, and the model's context is 2048 tokens")


async def test_what_another_job_will_quantize_is_trained_only_if_it_can_be(api: Api, api_blobs: BlobSettings) -> None:
    await make_master(api, api_blobs)
    await api.make_dataset("jargon")
    for scheme, words in (("W4A8", "rounds activations"), ("W4A16", None)):
        quantize = await api.submit(type="quantize", base="bard", method="gptq", scheme=scheme, calibration={"datasets": ["jargon"]})
        spec = finetune(model=f"output:{quantize['id']}")
        if words is None:
            await api.submit(**spec)
        else:
            field, sentence = await refused(api, spec)
            assert (field, words in sentence) == ("spec.model", True)
    field, sentence = await refused(api, finetune(model=f"output:{quantize['id']}", validation_file="jargon"))
    assert (field, sentence) == ("spec.validation_file", "it is the training file: what was learned says nothing of what was not")


async def test_a_recipe_that_what_is_merged_could_not_follow_is_refused(api: Api, api_blobs: BlobSettings) -> None:
    await make_master(api, api_blobs)
    await api.make_dataset("jargon")
    job = await api.submit(**finetune(hyperparameters={"batch_size": 1, "sequence_tokens": 64}))

    def merge(**recipe: Any) -> dict[str, Any]:
        return {"type": "merge", "adapters": [{"adapter": f"output:{job['id']}"}], "quantize": recipe}

    field, sentence = await refused(api, merge(method="eetq"))
    assert (field, "method eetq runs on cuda only" in sentence) == ("spec.quantize", True)
    field, sentence = await refused(api, merge(method="rtn", overrides=[{"modules": ["*.nowhere"], "scheme": "W8A16"}]))
    assert (field, "what is merged could not be quantized so" in sentence) == ("spec.quantize", True)
    # Quantized without a GPU, also where the merge has one.
    assert (await estimate(api, merge(method="rtn"), resource="gpu"))["queue"] == "gpu"


async def test_the_file_that_is_named_for_validation_is_counted(api: Api, api_blobs: BlobSettings) -> None:
    await make_master(api, api_blobs)
    # A dataset holds its name.
    exams = ["exam", "an-exam-of-some-more-bytes-than-the-other"]
    for name in ("jargon", *exams):
        await api.make_dataset(name)
    small = {"batch_size": 1, "sequence_tokens": 64}
    short, long = [await estimate(api, finetune(hyperparameters=small, validation_file=exam)) for exam in exams]
    assert long["minutes"] > short["minutes"]


async def test_what_processes_cannot_share_is_refused_at_once(api: Api, api_blobs: BlobSettings) -> None:
    await make_master(api, api_blobs)
    await api.make_dataset("jargon")
    small = {"batch_size": 1, "sequence_tokens": 64}
    field, sentence = await refused(api, finetune(hyperparameters=small, distributed={"strategy": "fsdp"}))
    assert (field, "shards over GPUs, and this job gets none" in sentence) == ("spec.distributed", True)
    field, sentence = await refused(api, finetune(hyperparameters=small, distributed={"strategy": "ddp"}), resource="gpu")
    assert (field, "2 processes need as many GPUs, and this job gets 1" in sentence) == ("spec.distributed", True)


async def test_an_adapter_is_measured_by_what_it_was_trained_on(api: Api, api_blobs: BlobSettings) -> None:
    await make_master(api, api_blobs)
    await api.make_dataset("jargon")
    job = await api.submit(**finetune(suffix="jargon", hyperparameters={"batch_size": 1, "sequence_tokens": 64}))
    waiting = await estimate(api, {"type": "merge", "adapters": [{"adapter": f"output:{job['id']}"}]})
    assert waiting["result_bytes"] > 0
    lease = await api.claim()
    assert lease is not None
    draft = adapter_draft(FinetuneSpec.model_validate(job["spec"]), "bard-jargon")
    async with api.database.begin() as uow:
        await record_seal(uow, SealRequest(job_id=job["id"], attempt=1, files=draft.files), dtype=None)
    done = await api.execute(lease, "finish", outcome="succeeded", reason="completed", version=draft.model_dump(mode="json"))
    assert done.status_code == 200, done.text

    merged = await estimate(api, {"type": "merge", "adapters": [{"adapter": "bard-jargon@1"}]})
    assert (merged["result_bytes"], merged["notes"]) == (waiting["result_bytes"], [])
    assert merged["key"] == "merge/plain/cpu"
    alone = await estimate(api, {"type": "evaluate", "version": "bard", "corpora": ["jargon"]})
    adapted = await estimate(api, {"type": "evaluate", "version": "bard-jargon@1", "corpora": ["jargon"]})
    assert adapted["peak_ram_bytes"] == alone["peak_ram_bytes"]


async def test_a_quantized_base_is_told_from_its_master_and_its_recipe(api: Api, api_blobs: BlobSettings) -> None:
    await make_master(api, api_blobs)
    await api.make_dataset("jargon")
    await api.make_dataset()
    version = await make_quantized(api)
    small = {"batch_size": 1, "sequence_tokens": 64}
    on_quantized = await estimate(api, finetune(model=version, hyperparameters=small))
    on_master = await estimate(api, finetune(hyperparameters=small))
    assert on_quantized["notes"] == on_master["notes"]
    assert on_quantized["result_bytes"] == on_master["result_bytes"]
    field, sentence = await refused(api, finetune(model=version, adapter=None, hyperparameters=small))
    assert (field, "only 16-bit weights can all be trained" in sentence) == ("spec.model", True)
