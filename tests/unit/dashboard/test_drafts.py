"""What stands in a form becomes the document that is submitted, and nothing besides."""

from __future__ import annotations

from typing import Any

import pytest

from factories.job_api import a_spec
from factories.work_api import openapi
from quantry_core.jobs import (
    AdapterShare,
    CalibrationSpec,
    DeploySpec,
    EvaluateSpec,
    FinetuneSpec,
    ImportSpec,
    JobSpec,
    JobSubmission,
    MergeSpec,
    QuantizeSpec,
    RecalibrateSpec,
    SpeedSpec,
)
from quantry_core.strategies import CanaryStrategy
from quantry_dashboard.drafts import (
    AlternativesDraft,
    Draft,
    EntriesDraft,
    GroupDraft,
    LeafDraft,
    ManyDraft,
    MaybeDraft,
    place_of,
    prefilled,
)
from quantry_dashboard.shapes import ABSENT, Choice, Document, Flag, Number, Plain, Text, submission_shape

SHAPE = submission_shape(openapi())
SPECS: list[JobSpec] = [
    ImportSpec(model="bard", source="hf:owner/name"),
    a_spec(),
    QuantizeSpec(base="bard", group_size="channel", options={"damping": 0.05, "sym": True, "order": "act"}, quality=None, ignore=[]),
    FinetuneSpec(model="bard", training_file="rows", adapter=None),
    MergeSpec(adapters=[AdapterShare(adapter="a@1"), AdapterShare(adapter="b@1", weight=0.5)], quantize=None),
    MergeSpec(adapters=[AdapterShare(adapter="a@1")], measure=True, validation_file="held@1", corpora=["kjv.test"], max_windows=None),
    EvaluateSpec(
        version="bard", against="bard@1", corpora=["kjv.test"], thresholds={"kl_mean_nats": 0.05}, speed=SpeedSpec(concurrency=[2])
    ),
    RecalibrateSpec(deployment="bard", datasets=["new"], corpora=["kjv.test"], rollout=True),
    DeploySpec(deployment="bard", version="bard@2", strategy=CanaryStrategy()),
]


def part(draft: Draft, path: str) -> Any:
    """Returns the draft at a path."""
    return list(place_of(draft, path.split(".")))[-1]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.type)
def test_a_spec_filled_in_comes_out_as_it_was(spec: JobSpec) -> None:
    submission = JobSubmission(spec=spec, labels={"team": "search"}, priority=3, metadata={"note": [1, None]})
    given = prefilled(SHAPE, submission.model_dump(mode="json")).given()
    assert JobSubmission.model_validate(given) == submission


def test_what_is_left_as_it_is_is_not_submitted() -> None:
    given = prefilled(SHAPE, JobSubmission(spec=a_spec()).model_dump(mode="json")).given()
    assert given == {
        "spec": {"type": "quantize", "base": "bard-6m", "scheme": "W4A16", "calibration": {"datasets": ["kjv.calibration"]}},
    }


def test_a_form_that_nobody_touched_holds_the_first_type_alone() -> None:
    assert prefilled(SHAPE, {}).given() == {"spec": {"type": "import"}}


def test_a_switch_turned_off_is_null_only_where_it_was_on() -> None:
    draft = prefilled(SHAPE, {"spec": {"type": "quantize", "base": "b"}})
    quality, calibration = part(draft, "spec.quality"), part(draft, "spec.calibration")
    spec = part(draft, "spec")
    switches = {name: spec.fields[name] for name in ("quality", "calibration")}
    assert all(isinstance(switch, MaybeDraft) for switch in switches.values())
    assert (switches["quality"].is_on, switches["calibration"].is_on) == (True, False)
    switches["quality"].is_on = False
    assert draft.given()["spec"] == {"type": "quantize", "base": "b", "quality": None}
    switches["quality"].is_on, switches["calibration"].is_on = True, True
    assert draft.given()["spec"] == {"type": "quantize", "base": "b", "calibration": {}}
    assert isinstance(quality, GroupDraft)
    assert isinstance(calibration, GroupDraft)


def test_choosing_another_type_keeps_what_was_filled_into_the_first() -> None:
    draft = prefilled(SHAPE, {"spec": {"type": "import", "model": "bard", "source": "/x"}})
    spec = draft.fields["spec"]
    assert isinstance(spec, AlternativesDraft)
    spec.choose("evaluate")
    assert draft.given() == {"spec": {"type": "evaluate"}}
    spec.choose("no such type")
    spec.choose("import")
    assert draft.given() == {"spec": {"type": "import", "model": "bard", "source": "/x"}}


def test_lists_count_what_is_filled_in() -> None:
    draft = prefilled(SHAPE, {"spec": {"type": "quantize", "base": "b", "calibration": {"datasets": ["a", "b"]}}})
    datasets = part(draft, "spec.calibration.datasets")
    assert isinstance(datasets, ManyDraft)
    datasets.add()
    datasets.add("c")
    assert draft.given()["spec"]["calibration"] == {"datasets": ["a", "b", "c"]}
    # As the API counts them.
    assert part(draft, "spec.calibration.datasets.2").text == "c"
    ignore = part(draft, "spec.ignore")
    ignore.items.clear()
    assert draft.given()["spec"]["ignore"] == []


def test_entries_are_known_by_their_keys() -> None:
    draft = prefilled(SHAPE, {})
    labels = draft.fields["labels"]
    assert isinstance(labels, EntriesDraft)
    labels.add("team", "search")
    labels.add("", "nothing")
    labels.add("nightly")
    assert draft.given()["labels"] == {"team": "search", "nightly": ""}
    assert part(draft, "labels.team").text == "search"


@pytest.mark.parametrize(
    ("shape", "text", "value"),
    [
        (Number(True), "12", 12),
        (Number(True), "1.5", "1.5"),
        (Number(True), "many", "many"),
        (Number(False), "2e-4", 0.0002),
        (Number(False), "nan", "nan"),
        (Number(False), "1e999", "1e999"),
        (Text(), "  a b ", "a b"),
        (Text(is_moment=True), "2026-01-02T03:04:05", "2026-01-02T03:04:05Z"),
        (Flag(), "true", True),
        (Choice((1, 2)), "2", 2),
        (Choice(("a",)), "b", "b"),
        (Plain(), "true", True),
        (Plain(), "0.5", 0.5),
        (Plain(), "[1]", "[1]"),
        (Document(), '{"a": [1, null]}', {"a": [1, None]}),
        (Document(), "{", "{"),
        (Document(), "NaN", "NaN"),
        (Document(), "[" * 20_000, "[" * 20_000),
        (Text(), "   ", ABSENT),
    ],
)
def test_a_text_is_read_as_its_shape_says_and_else_left_to_the_api(shape: Any, text: str, value: object) -> None:
    assert LeafDraft(shape, text=text).complete() == value


def test_a_default_written_out_is_not_given() -> None:
    assert LeafDraft(Number(True), default=64, text="64").given() is ABSENT
    assert LeafDraft(Number(True), default=64, text="65").given() == 65
    assert LeafDraft(Flag(), default=True, text="false").given() is False


def test_a_problem_finds_its_field_or_what_is_nearest() -> None:
    document = {"spec": {"type": "deploy", "strategy": CanaryStrategy().model_dump(mode="json")}, "needs": ["job_1"]}
    draft = prefilled(SHAPE, document)
    assert isinstance(part(draft, "spec.strategy.steps.1.percent"), LeafDraft)
    assert part(draft, "spec.strategy.steps.1.percent").text == "50"
    assert isinstance(part(draft, "spec.strategy.steps.9"), ManyDraft)
    assert isinstance(part(draft, "needs.0"), LeafDraft)
    assert part(draft, "nothing.here") is draft
    assert isinstance(part(draft, "spec"), GroupDraft)


def test_a_calibration_that_is_given_is_on() -> None:
    spec = QuantizeSpec(base="b", calibration=CalibrationSpec(datasets=["x"]))
    draft = prefilled(SHAPE, {"spec": spec.model_dump(mode="json")})
    assert draft.given()["spec"]["calibration"] == {"datasets": ["x"]}
