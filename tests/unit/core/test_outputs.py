"""What jobs make: kinds and models by their specs."""

from __future__ import annotations

from typing import Any

import pytest

from quantry_core.errors import InvalidInput
from quantry_core.jobs import (
    SPECS,
    DeploySpec,
    EvaluateSpec,
    FinetuneSpec,
    ImportSpec,
    JobSpec,
    JobType,
    MergeSpec,
    QuantizeSpec,
    RecalibrateSpec,
)
from quantry_core.outputs import made_kind, made_model, recipe_of
from quantry_core.versions import VersionKind


def finetune(**changes: Any) -> FinetuneSpec:
    return FinetuneSpec.model_validate({"model": "bard", "training_file": "lessons", **changes})


def merge(**changes: Any) -> MergeSpec:
    return MergeSpec.model_validate({"adapters": [{"adapter": "bard@2"}], **changes})


MADE: list[tuple[JobSpec, VersionKind | None]] = [
    (ImportSpec(model="bard", source="/m"), VersionKind.MASTER),
    (QuantizeSpec(base="bard", method="rtn"), VersionKind.QUANTIZED),
    (finetune(), VersionKind.ADAPTER),
    (finetune(adapter=None), VersionKind.MERGED),
    (merge(), VersionKind.MERGED),
    (RecalibrateSpec(serving="bard@2", datasets=["news"], corpora=["tales"]), VersionKind.QUANTIZED),
    (EvaluateSpec(version="bard", extremes=True), None),
    (DeploySpec(deployment="chat", version="bard"), None),
]


@pytest.mark.parametrize(("spec", "kind"), MADE)
def test_what_each_job_makes(spec: JobSpec, kind: VersionKind | None) -> None:
    assert made_kind(spec) is kind


def test_every_type_is_told() -> None:
    assert {spec.type for spec, _ in MADE} == set(SPECS) == set(JobType)


def test_a_suffix_names_the_model() -> None:
    assert made_model(finetune(), "bard") == "bard"
    assert made_model(finetune(suffix="jargon"), "bard") == "bard-jargon"
    assert made_model(merge(suffix="both"), "bard-jargon") == "bard-jargon-both"
    assert made_model(QuantizeSpec(base="bard", method="rtn"), "bard") == "bard"
    assert made_model(ImportSpec(model="bard", source="/m"), "anything") == "bard"
    with pytest.raises(InvalidInput, match="at most 64 characters") as refused:
        made_model(finetune(suffix="jargon"), "b" * 60)
    assert refused.value.errors[0].field == "spec.suffix"


def test_only_what_quantizes_has_a_recipe() -> None:
    quantize = QuantizeSpec(base="bard", method="rtn")
    assert recipe_of(quantize) is quantize
    again = RecalibrateSpec(serving="bard@2", datasets=["news"], corpora=["tales"])
    assert recipe_of(again) is None
    assert recipe_of(again.model_copy(update={"recipe": quantize})) is quantize
    assert recipe_of(merge(quantize={"method": "rtn"})) is None
