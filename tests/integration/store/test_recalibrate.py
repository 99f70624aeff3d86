"""Recalibration: what serves is found at submission; a candidate that is no worse moves the alias, and goes on to a rollout if asked."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from factories.releases import say_hello
from factories.store import GATE_PASSED, Platform, quantize_spec, quantized_draft, succeeded
from quantry_core.errors import InvalidInput, NotFound, UnknownDeployment
from quantry_core.execution import Outcome
from quantry_core.jobs import DeploySpec, InputRole, Job, JobReason, JobStatus, QuantizeSpec, RecalibrateSpec, written_out
from quantry_core.recalibration import COMPARISON_PREFIX, settings_of
from quantry_core.versions import EdgeRole, EvidenceDraft, EvidenceKind, Verdict, Version, VersionKind, VersionState


def comparison(corpus: str, verdict: Verdict = Verdict.PASS) -> EvidenceDraft:
    return EvidenceDraft(
        kind=EvidenceKind.EVALUATION, name=COMPARISON_PREFIX + corpus, verdict=verdict, metrics={"nll_increase_nats": -0.1}
    )


async def serving(platform: Platform) -> Version:
    """Returns a quantized version with a recipe such as a worker writes, made from a master on the dataset tales."""
    master, tales = await platform.master(), await platform.dataset()
    spec = quantize_spec(master.ref, tales.ref, group_size=64)
    recipe = written_out(spec).model_dump(mode="json") | {"backend": "llm-compressor", "settings": {"num_threads": 2}}
    return await platform.made(await platform.running(spec), quantized_draft(recipe=recipe))


def again(**changes: Any) -> RecalibrateSpec:
    return RecalibrateSpec.model_validate({"datasets": ["news"], "corpora": ["tales"], **changes})


async def running(platform: Platform, **changes: Any) -> Job:
    await platform.dataset("news", "what was said of late")
    return await platform.running(again(**changes))


async def test_the_recipe_that_serves_is_found_and_kept(platform: Platform) -> None:
    version = await serving(platform)
    await platform.promoted(version)
    job = await running(platform, deployment="chat")
    assert isinstance(job.spec, RecalibrateSpec)
    recipe = job.spec.recipe
    assert isinstance(recipe, QuantizeSpec)
    assert (recipe.method, recipe.scheme, recipe.group_size) == ("gptq", "W4A16", 64)
    assert recipe.calibration is not None
    assert recipe.calibration.datasets == ["news"]
    assert job.spec.serving == version.id
    roles = {item.role: item.version_id or item.dataset_id for item in job.inputs}
    assert set(roles) == {InputRole.BASE, InputRole.REFERENCE, InputRole.CALIBRATION, InputRole.CORPUS, InputRole.COMPARISON}
    assert roles[InputRole.REFERENCE] == version.id
    async with platform.database.begin() as uow:
        assert (await uow.versions.get(platform.project_id, roles[InputRole.BASE] or "")).kind is VersionKind.MASTER


async def test_the_newest_version_of_a_dataset_is_taken(platform: Platform) -> None:
    version = await serving(platform)
    await platform.dataset("news", "old")
    newest = await platform.dataset("news", "new")
    job = await platform.running(again(serving=version.ref))
    assert [item.dataset_id for item in job.inputs if item.role is InputRole.CALIBRATION] == [newest.id]


async def test_a_candidate_that_is_no_worse_moves_the_alias(platform: Platform) -> None:
    version = await serving(platform)
    job = await running(platform, serving=version.ref, corpora=["tales", "news"])
    evidence = [*GATE_PASSED, comparison("tales"), comparison("news")]
    done = await platform.finish(job, **succeeded(quantized_draft(content="again"), evidence=evidence))
    assert done.result is not None
    assert done.result.metrics == {"is_no_worse": True, "alias": "candidate"}
    async with platform.database.begin() as uow:
        alias = await uow.aliases.get(platform.project_id, "bard", "candidate")
        made = await uow.versions.detail(platform.project_id, done.result.version_id or "")
    assert alias.version_id == made.id != version.id
    assert {edge.role for edge in made.edges} == {EdgeRole.BASE, EdgeRole.CALIBRATION}


@pytest.mark.parametrize(
    "compared",
    [
        [comparison("tales", Verdict.FAIL)],
        [comparison("tales", Verdict.INCONCLUSIVE)],
        [],
    ],
)
async def test_any_other_candidate_moves_nothing(platform: Platform, compared: list[EvidenceDraft]) -> None:
    version = await serving(platform)
    job = await running(platform, serving=version.ref)
    done = await platform.finish(job, **succeeded(quantized_draft(content="again"), evidence=[*GATE_PASSED, *compared]))
    assert done.status is JobStatus.SUCCEEDED
    assert done.result is not None
    assert done.result.metrics == {"is_no_worse": False}
    with pytest.raises(NotFound):
        async with platform.database.begin() as uow:
            await uow.aliases.get(platform.project_id, "bard", "candidate")


async def test_a_candidate_that_failed_its_gate_is_kept_and_moves_nothing(platform: Platform) -> None:
    version = await serving(platform)
    job = await running(platform, serving=version.ref)
    failed = GATE_PASSED[0].model_copy(update={"verdict": Verdict.FAIL})
    draft = quantized_draft(content="again", state=VersionState.QUARANTINED)
    evidence = [failed, comparison("tales")]
    done = await platform.finish(job, outcome=Outcome.FAILED, reason=JobReason.GATE_FAILED, version=draft, evidence=evidence)
    assert done.result is not None
    assert done.result.metrics == {"is_no_worse": False}


async def test_a_rollout_takes_over_how_it_is_served(platform: Platform) -> None:
    version = await serving(platform)
    await platform.promoted(version)
    job = await running(platform, deployment="chat", rollout=True)
    done = await platform.finish(job, **succeeded(quantized_draft(content="again"), evidence=[*GATE_PASSED, comparison("tales")]))
    assert done.result is not None
    rollout = await platform.job(done.result.metrics["rollout_job_id"])
    assert isinstance(rollout.spec, DeploySpec)
    assert (rollout.spec.deployment, rollout.spec.version) == ("chat", done.result.version_id)


async def test_a_rollout_that_is_refused_undoes_nothing_else(platform: Platform) -> None:
    version = await serving(platform)
    await platform.promoted(version)
    job = await running(platform, deployment="chat", rollout=True)
    await platform.rollout(version)
    done = await platform.finish(job, **succeeded(quantized_draft(content="again"), evidence=[*GATE_PASSED, comparison("tales")]))
    assert done.status is JobStatus.SUCCEEDED
    assert done.result is not None
    assert done.result.metrics["alias"] == "candidate"
    assert "rollout" in done.result.metrics["rollout_refused"]


async def test_what_serves_by_now_is_looked_at_again(platform: Platform) -> None:
    version = await serving(platform)
    await platform.promoted(version)
    job = await running(platform, deployment="chat", rollout=True)
    other = await platform.made(await platform.running(quantize_spec("bard@1", "news", group_size=128)), quantized_draft(content="other"))
    await platform.promoted(other)
    done = await platform.finish(job, **succeeded(quantized_draft(content="again"), evidence=[*GATE_PASSED, comparison("tales")]))
    assert done.result is not None
    told = f"chat serves {other.ref} by now, and it was compared with {version.ref}"
    assert done.result.metrics == {"is_no_worse": True, "nothing_moved": told}


async def test_the_serving_version_once_more_moves_nothing(platform: Platform) -> None:
    version = await serving(platform)
    job = await running(platform, serving=version.ref)
    done = await platform.finish(job, **succeeded(quantized_draft(), evidence=[*GATE_PASSED, comparison("tales")]))
    assert done.result is not None
    assert "to the byte" in done.result.metrics["nothing_moved"]


async def test_an_alias_cannot_be_a_number() -> None:
    with pytest.raises(ValidationError, match="an alias cannot be a number"):
        again(serving="bard@1", alias="2")


async def test_a_comparison_that_was_made_is_not_made_again(platform: Platform) -> None:
    version = await serving(platform)
    job = await running(platform, serving=version.ref)
    assert isinstance(job.spec, RecalibrateSpec)
    first = comparison("tales@1")
    asked = {"against_version_id": version.id, **settings_of(job.spec)}
    first = first.model_copy(update={"metrics": first.metrics | asked})
    draft = quantized_draft(content="again", recipe=job.spec.recipe.model_dump(mode="json") if job.spec.recipe else {})
    made = await platform.finish(job, **succeeded(draft, evidence=[*GATE_PASSED, first]))
    assert made.result is not None
    await say_hello(platform)
    second = await platform.submit(again(serving=version.ref))
    assert second.status is JobStatus.SUCCEEDED
    assert second.result is not None and second.result.reused
    assert second.result.version_id == made.result.version_id
    assert "nothing new" in (second.message or "")
    # Another question is asked, and so answered.
    assert (await platform.submit(again(serving=version.ref, margin_nats=0.5))).status is JobStatus.QUEUED
    assert (await platform.submit(again(serving=version.ref, corpora=["news"]))).status is JobStatus.QUEUED
    async with platform.database.begin() as uow:
        candidate = await uow.versions.get(platform.project_id, made.result.version_id or "")
    # What was compared serves now: the same text can make nothing else.
    await platform.promoted(candidate)
    assert (await platform.submit(again(deployment="chat"))).status is JobStatus.SUCCEEDED


async def test_what_has_no_recipe_to_repeat_is_refused(platform: Platform) -> None:
    master = await platform.master()
    await platform.dataset("news")
    await platform.dataset("tales")
    with pytest.raises(InvalidInput, match="only a quantized one has a recipe"):
        await platform.submit(again(serving=master.id))
    with pytest.raises(UnknownDeployment):
        await platform.submit(again(deployment="chat"))
    with pytest.raises(InvalidInput, match="a version that is there"):
        await platform.submit(again(serving="output:job_" + "0" * 32))


async def test_a_recipe_without_text_is_refused(platform: Platform) -> None:
    master = await platform.master()
    await platform.dataset("news")
    await platform.dataset("tales")
    spec = QuantizeSpec(base=master.id, method="rtn")
    made = await platform.made(await platform.running(spec), quantized_draft(recipe=written_out(spec).model_dump(mode="json")))
    with pytest.raises(InvalidInput, match="new text changes nothing"):
        await platform.submit(again(serving=made.ref))
