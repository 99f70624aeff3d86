"""Which datasets a spec names, by what they are to its job."""

from __future__ import annotations

from factories.store import finetune_spec, merge_spec, quantize_spec
from quantry_core.jobs import BUILT_IN_QUALITY_CORPUS, InputRole
from quantry_store.transactions.inputs import dataset_refs, recipe_datasets

RECIPE = {"method": "gptq", "calibration": {"datasets": ["tales"]}}


def test_a_training_has_what_it_learns_from_what_was_held_out_and_what_it_may_forget() -> None:
    spec = finetune_spec("bard", validation_file="exam", corpora=["plays", "psalms"])
    assert dataset_refs(spec) == {
        InputRole.TRAINING: ["lessons"],
        InputRole.VALIDATION: ["exam"],
        InputRole.CORPUS: ["plays", "psalms"],
    }
    assert dataset_refs(finetune_spec("bard"))[InputRole.VALIDATION] == []


def test_only_a_measured_merge_calibrates_by_itself() -> None:
    measured = merge_spec("bard@3", quantize=RECIPE, measure=True, validation_file="exam", corpora=["plays"])
    assert dataset_refs(measured) == {
        InputRole.VALIDATION: ["exam"],
        InputRole.CORPUS: ["plays"],
        InputRole.CALIBRATION: ["tales"],
    }
    assert not any(dataset_refs(merge_spec("bard@3", quantize=RECIPE)).values())


def test_a_recipe_of_its_own_names_what_the_next_job_needs() -> None:
    assert recipe_datasets(merge_spec("bard@3", quantize=RECIPE)) == ["tales", BUILT_IN_QUALITY_CORPUS]
    assert recipe_datasets(merge_spec("bard@3", quantize=RECIPE | {"quality": None})) == ["tales"]
    assert recipe_datasets(merge_spec("bard@3", quantize={"method": "rtn", "quality": None})) == []
    for spec in (merge_spec("bard@3"), merge_spec("bard@3", quantize=None), quantize_spec("bard", "tales")):
        assert recipe_datasets(spec) == []
