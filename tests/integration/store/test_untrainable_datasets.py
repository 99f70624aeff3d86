"""Datasets with rows that have no answer: who may name them, and what is told of their lines."""

from __future__ import annotations

from dataclasses import replace

import pytest

from factories.store import UPLOADED, Platform, blob, finetune_spec, merge_spec
from quantry_core.datasets import DatasetKind, DatasetStatistics, UntrainableRow
from quantry_core.errors import InvalidInput


async def chats(platform: Platform, name: str, num_untrainable: int | None) -> None:
    """Adds a dataset of chats, of which so many have no answer; None is of a release that did not count them."""
    kept = [UntrainableRow(line=2 * index, reason="has no answer") for index in range(1, min(num_untrainable or 0, 100) + 1)]
    statistics = DatasetStatistics(num_rows=1000, num_untrainable_rows=num_untrainable, untrainable_rows=kept)
    async with platform.database.begin() as uow:
        draft = replace(UPLOADED, kind=DatasetKind.CHAT, statistics=statistics)
        await uow.datasets.add(platform.project_id, name, blob(name), draft)


@pytest.mark.parametrize(
    ("num_untrainable", "detail"),
    [
        (1, "bad@1: line 2 has no answer"),
        (100, "bad@1: line 2 has no answer; there are 100 such rows in all, see errors"),
        (120, "bad@1: line 2 has no answer; there are 120 such rows in all: 100 in errors, 20 more"),
    ],
)
async def test_a_training_on_rows_without_an_answer_is_refused_with_their_lines(
    platform: Platform, num_untrainable: int, detail: str
) -> None:
    await platform.master()
    await chats(platform, "lessons", 0)
    await chats(platform, "bad", num_untrainable)
    lines = [f"line {2 * index} has no answer" for index in range(1, min(num_untrainable, 100) + 1)]
    for field, spec in (
        ("spec.training_file", finetune_spec("bard", "bad")),
        ("spec.validation_file", finetune_spec("bard", validation_file="bad")),
    ):
        with pytest.raises(InvalidInput) as refused:
            await platform.submit(spec)
        assert refused.value.detail == detail
        assert [(problem.field, problem.message) for problem in refused.value.errors] == [(field, line) for line in lines]


async def test_a_merge_is_not_judged_by_rows_without_an_answer(platform: Platform) -> None:
    adapter = await platform.adapter(await platform.master())
    await chats(platform, "bad", 1)
    recipe = {"method": "rtn", "scheme": "W8A16"}
    with pytest.raises(InvalidInput, match="bad@1: line 2 has no answer") as refused:
        await platform.submit(merge_spec(adapter.ref, measure=True, validation_file="bad", quantize=recipe))
    assert refused.value.errors[0].field == "spec.validation_file"


async def test_methods_that_let_the_model_answer_take_prompts_alone(platform: Platform) -> None:
    await platform.master()
    await chats(platform, "questions", 1000)
    method = {"type": "grpo", "rewards": [{"name": "json_valid"}]}
    await platform.submit(finetune_spec("bard", "questions", method=method))


async def test_a_dataset_that_was_never_counted_is_left_to_the_job(platform: Platform) -> None:
    await platform.master()
    await chats(platform, "old", None)
    await platform.submit(finetune_spec("bard", "old"))
