"""Fine-tune jobs in the store: what may be trained on what, what is made of it, and how it is evaluated."""

from __future__ import annotations

from typing import Any

import pytest

from factories.made import edges, ids, quantized, release
from factories.store import (
    Platform,
    adapter_draft,
    finetune_spec,
    merged_draft,
    quantize_spec,
    quantized_draft,
    succeeded,
)
from quantry_core.datasets import DatasetKind
from quantry_core.errors import InvalidInput, SealRefused
from quantry_core.execution import FinishRequest
from quantry_core.jobs import (
    OUTPUT_PREFIX,
    DeploySpec,
    EvaluateSpec,
    InputRole,
    JobReason,
    JobStatus,
    QuantizeSpec,
)
from quantry_core.versions import EdgeRole, VersionDraft, VersionKind
from quantry_store.transactions import finish_attempt


async def test_an_adapter_is_a_version_of_its_base_and_what_it_learned(platform: Platform) -> None:
    master = await platform.master()
    lessons, held_out, corpus = [await platform.dataset(name, name) for name in ("lessons", "exam", "plays")]
    job = await platform.running(finetune_spec("bard", validation_file="exam", corpora=["plays"]))
    assert [(item.role, item.version_id or item.dataset_id) for item in job.inputs] == [
        (InputRole.BASE, master.id),
        (InputRole.TRAINING, lessons.id),
        (InputRole.VALIDATION, held_out.id),
        (InputRole.CORPUS, corpus.id),
    ]
    version = await platform.made(job, adapter_draft())
    assert (version.kind, version.ref, version.scheme, version.dtype) == (VersionKind.ADAPTER, "bard@2", None, None)
    assert version.card == master.card
    assert await edges(platform, version) == [
        (EdgeRole.BASE, master.id),
        (EdgeRole.TRAINING, lessons.id),
        (EdgeRole.TRAINING, held_out.id),
    ]


async def test_a_suffix_names_a_model_of_its_own(platform: Platform) -> None:
    master = await platform.master()
    first, second = [await platform.adapter(master, content, suffix="jargon") for content in ("one", "two")]
    assert (first.ref, second.ref) == ("bard-jargon@1", "bard-jargon@2")
    job = await platform.running(finetune_spec("bard", suffix="jargon"))
    with pytest.raises(InvalidInput, match="makes a version of model 'bard-jargon', not 'bard'"):
        await platform.finish(job, **succeeded(adapter_draft("bard", "three")))


async def test_a_suffix_that_makes_no_name_is_refused_at_submission(platform: Platform) -> None:
    await platform.master("b" * 60)
    await platform.dataset("lessons")
    with pytest.raises(InvalidInput, match="at most 64 characters") as refused:
        await platform.submit(finetune_spec("b" * 60, suffix="jargon"))
    assert refused.value.errors[0].field == "spec.suffix"


async def test_training_all_weights_makes_a_merged_version_that_is_quantized_and_served(platform: Platform) -> None:
    master, tales = await platform.master(), await platform.dataset()
    await platform.dataset("lessons")
    job = await platform.running(finetune_spec(master.ref, adapter=None))
    with pytest.raises(InvalidInput, match="makes a version of kind merged, not adapter"):
        await platform.finish(job, **succeeded(adapter_draft()))
    trained = await platform.made(job, merged_draft())
    assert (trained.kind, trained.dtype) == (VersionKind.MERGED, "float16")
    smaller = await platform.quantized(trained, tales, "smaller")
    assert await edges(platform, smaller) == [(EdgeRole.BASE, trained.id), (EdgeRole.CALIBRATION, tales.id)]
    await platform.promoted(trained)
    # An adapter stands on neither: it is loaded beside its base.
    adapter = await platform.adapter(trained)
    for spec in (DeploySpec(deployment="other", version=adapter.id), quantize_spec(adapter.id, tales.id)):
        with pytest.raises(InvalidInput, match="is an adapter version"):
            await platform.submit(spec)


@pytest.mark.parametrize(
    ("draft", "error", "words"),
    [
        (adapter_draft(dtype="float32"), InvalidInput, "of format peft"),
        (adapter_draft(scheme="W4A16"), InvalidInput, "of format peft"),
        (adapter_draft(format="safetensors"), InvalidInput, "of format peft"),
        (adapter_draft(kind=VersionKind.MERGED), InvalidInput, "kind adapter, not merged"),
    ],
)
async def test_an_adapter_that_does_not_fit_its_job_is_refused(
    platform: Platform, draft: VersionDraft, error: type[Exception], words: str
) -> None:
    await platform.master()
    await platform.dataset("lessons")
    job = await platform.running(finetune_spec("bard"))
    with pytest.raises(error, match=words):
        await platform.finish(job, **succeeded(draft))


async def test_the_dtype_of_an_adapter_is_the_sealed_one(platform: Platform) -> None:
    await platform.master()
    await platform.dataset("lessons")
    job = await platform.running(finetune_spec("bard"))
    draft = adapter_draft(dtype="bfloat16")
    await platform.seal(job, draft.files, dtype=None)
    with pytest.raises(SealRefused, match="the sealed weights are None, not bfloat16"):
        async with platform.database.begin() as uow:
            await finish_attempt(uow, job.id, FinishRequest(attempt=job.attempt, **succeeded(draft)))


async def test_a_base_that_cannot_be_trained_is_refused_with_what_to_take(platform: Platform) -> None:
    master = await platform.master()
    await platform.dataset("lessons")
    packed = await quantized(platform, master)
    # Weight-only: an adapter is trained on it, all weights are not, and nothing rounds it once more.
    assert ids(await platform.running(finetune_spec(packed.ref)), InputRole.BASE) == [packed.id]
    for changes, words in (({"adapter": None}, "give an adapter"), ({"base_precision": "nf4"}, "quantized already")):
        with pytest.raises(InvalidInput, match=words) as refused:
            await platform.submit(finetune_spec(packed.ref, **changes))
        assert refused.value.errors[0].field == "spec.model"
    mixed = await quantized(platform, master, overrides=[{"modules": ["*.o_proj"], "scheme": "W8A8"}])
    with pytest.raises(InvalidInput, match="scheme W8A8 rounds activations"):
        await platform.submit(finetune_spec(mixed.ref))
    adapter = await platform.adapter(master)
    with pytest.raises(InvalidInput, match="adapter version"):
        await platform.submit(finetune_spec(adapter.ref))


@pytest.mark.parametrize(
    ("method", "kind", "words"),
    [
        ({"type": "supervised"}, DatasetKind.PREFERENCES, "take dpo or kto or orpo"),
        ({"type": "dpo"}, DatasetKind.CHAT, "method dpo learns from datasets of kind preferences"),
        ({"type": "kto"}, DatasetKind.TEXT, "labelled or preferences"),
        ({"type": "grpo", "rewards": [{"name": "exact_match"}]}, DatasetKind.ROWS, "chat or prompt-response"),
    ],
)
async def test_what_a_method_cannot_learn_from_is_refused(
    platform: Platform, method: dict[str, Any], kind: DatasetKind, words: str
) -> None:
    await platform.master()
    await platform.dataset("lessons", kind=kind)
    with pytest.raises(InvalidInput, match=words) as refused:
        await platform.submit(finetune_spec("bard", method=method))
    assert refused.value.errors[0].field == "spec.training_file"


async def test_the_held_out_file_is_another_one(platform: Platform) -> None:
    await platform.master()
    lessons = await platform.dataset("lessons")
    with pytest.raises(InvalidInput, match="it is the training file"):
        await platform.submit(finetune_spec("bard", validation_file=lessons.id))


async def test_an_evaluation_of_an_adapter_brings_its_base(platform: Platform) -> None:
    master = await platform.master()
    packed = await quantized(platform, master)
    one, other = await platform.adapter(master), await platform.adapter(packed, "other")
    job = await platform.running(EvaluateSpec(version=one.ref, against=other.ref, corpora=["tales"]))
    assert ids(job, InputRole.SUBJECT) == [one.id]
    assert ids(job, InputRole.REFERENCE) == [other.id]
    assert sorted(map(str, ids(job, InputRole.ADAPTER_BASE))) == sorted([master.id, packed.id])
    plain = await platform.running(EvaluateSpec(version=master.ref, corpora=["tales"]))
    assert ids(plain, InputRole.ADAPTER_BASE) == []


async def test_a_base_that_turns_out_not_to_be_trainable_fails_its_job(platform: Platform) -> None:
    master = await platform.master()
    await platform.dataset("lessons")
    quantizing = await platform.running(QuantizeSpec(base=master.id, method="fp8", scheme="FP8_DYNAMIC", quality=None))
    training = await platform.submit(finetune_spec(OUTPUT_PREFIX + quantizing.id))
    draft = quantized_draft(scheme="FP8_DYNAMIC", recipe={"method": "fp8"})
    await platform.made(quantizing, draft)
    await release(platform)
    failed = await platform.job(training.id)
    assert (failed.status, failed.reason) == (JobStatus.FAILED, JobReason.INVALID_INPUT)
    assert "rounds activations" in (failed.message or "")
