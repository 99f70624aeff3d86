"""What is wrong with a request is said with the words of the field that is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from quantry_core.errors import InvalidInput, UnknownJobType
from quantry_core.jobs import JobSubmission
from quantry_http.validation import explain_validation

DEPLOY = {"type": "deploy", "deployment": "bard", "version": "bard"}
FINETUNE = {"type": "finetune", "model": "bard", "training_file": "lessons"}


def explained(spec: dict[str, Any]) -> InvalidInput:
    body = {"spec": spec}
    with pytest.raises(ValidationError) as refused:
        JobSubmission.model_validate(body)
    return explain_validation([{**error, "loc": ("body", *error["loc"])} for error in refused.value.errors()], body)


@pytest.mark.parametrize(
    ("spec", "kind", "field", "message"),
    [
        (
            {"type": "distill"},
            UnknownJobType,
            "spec",
            "there is no job type 'distill'; known: import, quantize, finetune, merge, evaluate, recalibrate, deploy",
        ),
        ({}, InvalidInput, "spec", "a type is needed: one of import, quantize, finetune, merge, evaluate, recalibrate, deploy"),
        (
            {**DEPLOY, "strategy": {"name": "sudden"}},
            InvalidInput,
            "spec.strategy",
            "there is no strategy 'sudden'; known: immediate, blue_green, canary, ab, shadow",
        ),
        ({**DEPLOY, "strategy": {}}, InvalidInput, "spec.strategy", "name is needed: it says which strategy is meant"),
        ({**FINETUNE, "method": {}}, InvalidInput, "spec.method", "type is needed: it says which method is meant"),
        (
            {**DEPLOY, "strategy": {"name": "canary", "steps": [{"percent": 10}]}},
            InvalidInput,
            "spec.strategy",
            "the last step must have 100 percent, not 10: a canary ends by serving everything",
        ),
        ({**DEPLOY, "strategy": {"name": "canary", "steps": [{}]}}, InvalidInput, "spec.strategy.steps.0.percent", "Field required"),
        (
            {**DEPLOY, "strategy": {"name": "canary", "analysis": {"rules": [{"rule": "vibes"}]}}},
            InvalidInput,
            "spec.strategy.analysis.rules.0",
            "there is no rule 'vibes'; known: error_rate_limit, latency_limit, error_rate_compared, latency_compared, feedback_compared, "
            "prometheus_limit",
        ),
    ],
)
def test_a_bad_spec_is_explained(spec: dict[str, Any], kind: type[InvalidInput], field: str, message: str) -> None:
    error = explained(spec)
    assert type(error) is kind
    assert [(one.field, one.message) for one in error.errors] == [(field, message)]
