"""Jobs in OpenAI's words."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from factories.job_api import a_job
from quantry_api.fine_tuning.schemas import MAX_MULTIPLIER, MIN_MULTIPLIER, FineTuningJobRequest, spec_hyperparameters, spec_method
from quantry_api.fine_tuning.service import fields_of_the_request
from quantry_api.fine_tuning.words import STATUSES, TOLD_KINDS, told_event, told_job
from quantry_core.errors import FieldProblem, InvalidInput
from quantry_core.jobs import DpoMethod, Estimate, EstimateFigures, EventKind, FinetuneSpec, Hyperparameters, JobEvent, JobStatus

FILE = "dat_" + "0" * 32


def request(**changes: Any) -> FineTuningJobRequest:
    return FineTuningJobRequest.model_validate({"model": "bard", "training_file": FILE} | changes)


def event(kind: EventKind, **data: Any) -> JobEvent:
    return JobEvent(seq=4, job_id="job_1", attempt=1, kind=kind, data=data, created_at=datetime(2026, 11, 22, tzinfo=UTC))


def test_every_state_has_a_word() -> None:
    assert set(STATUSES) == set(JobStatus)


@pytest.mark.parametrize("kind", EventKind)
def test_every_kind_of_event_is_told_or_left_out(kind: EventKind) -> None:
    if kind in TOLD_KINDS:
        assert told_event(event(kind, status="running", text="x", step=1)).id == "ftevent-4"
    else:
        with pytest.raises(ValueError, match="not told"):
            told_event(event(kind))


@pytest.mark.parametrize(("minutes", "told"), [(1.5, 90), (5e9, None), (1e300, None)])
def test_an_end_that_no_date_can_tell_is_not_told(minutes: float, told: int | None) -> None:
    spec = FinetuneSpec(model="bard", training_file=FILE)
    estimate = Estimate(minutes=minutes, key="finetune/supervised/cpu", uncorrected=EstimateFigures(minutes=minutes))
    running = a_job(JobStatus.RUNNING, spec=spec, estimate=estimate)
    shown = told_job(running, spec, None).estimated_finish
    assert running.started_at is not None
    assert shown == (None if told is None else int(running.started_at.timestamp()) + told)


def test_numbers_have_the_names_that_openai_has_for_them() -> None:
    told = told_event(event(EventKind.METRICS, step=3, loss=2.5, eval_loss=2.25, learning_rate=1e-4))
    assert told.data == {"step": 3, "train_loss": 2.5, "valid_loss": 2.25, "learning_rate": 1e-4}
    assert told.message == "Step 3: train_loss=2.5, valid_loss=2.25, learning_rate=0.0001"


def test_auto_and_nothing_are_the_defaults() -> None:
    automatic = {"n_epochs": "auto", "batch_size": "auto", "learning_rate_multiplier": "auto"}
    assert spec_hyperparameters(request(hyperparameters=automatic)) == Hyperparameters()
    assert spec_hyperparameters(request()) == Hyperparameters()
    assert spec_method(request(method={"type": "dpo", "dpo": {"hyperparameters": {"beta": "auto"}}})) == DpoMethod()


def test_hyperparameters_stand_at_the_top_or_in_the_method() -> None:
    top = request(hyperparameters={"n_epochs": 3, "learning_rate_multiplier": 2})
    inside = request(
        method={"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 3, "learning_rate_multiplier": 2}}},
    )
    assert spec_hyperparameters(top) == spec_hyperparameters(inside) == Hyperparameters(n_epochs=3, learning_rate=4e-4)
    dpo = request(method={"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.3, "batch_size": 2}}})
    assert spec_method(dpo) == DpoMethod(beta=0.3)
    assert spec_hyperparameters(dpo).batch_size == 2
    halved = request(method={"type": "dpo", "dpo": {"hyperparameters": {"learning_rate_multiplier": 0.5}}})
    assert spec_hyperparameters(halved).learning_rate == 5e-6
    with pytest.raises(ValidationError, match=r"method\.supervised\.hyperparameters"):
        request(method={"type": "supervised"}, hyperparameters={"n_epochs": 3})


def test_a_rate_is_never_more_than_a_spec_takes() -> None:
    assert spec_hyperparameters(request(hyperparameters={"learning_rate_multiplier": MAX_MULTIPLIER})).learning_rate == 1.0
    with pytest.raises(ValidationError, match="less than or equal to 5000"):
        request(hyperparameters={"learning_rate_multiplier": MAX_MULTIPLIER + 1})


@pytest.mark.parametrize("multiplier", [0, 1e-323, MIN_MULTIPLIER / 2])
def test_a_rate_is_never_nothing(multiplier: float) -> None:
    for method in ("supervised", "dpo"):
        smallest = {"type": method, method: {"hyperparameters": {"learning_rate_multiplier": MIN_MULTIPLIER}}}
        rate = spec_hyperparameters(request(method=smallest)).learning_rate
        assert rate is not None
        assert rate > 0
    with pytest.raises(ValidationError, match=r"greater than or equal to 0\.000001"):
        request(hyperparameters={"learning_rate_multiplier": multiplier})


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("spec.training_file", "training_file"),
        ("spec.deployment", "model"),
        ("spec.hyperparameters.sequence_tokens", "hyperparameters.sequence_tokens"),
        ("model", "model"),
    ],
)
def test_what_is_refused_names_the_fields_of_the_request(field: str, told: str) -> None:
    with pytest.raises(InvalidInput, match="no such thing") as refused, fields_of_the_request():
        raise InvalidInput("no such thing", errors=[FieldProblem(field=field, message="no such thing")])
    assert refused.value.errors == [FieldProblem(field=told, message="no such thing")]
