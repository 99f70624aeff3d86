"""The table of what is kept for how long."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from quantry_core.retention import RETAINED, RetentionKind, RetentionPart, RetentionRequest, policy_of


def test_every_kind_has_one_line() -> None:
    assert [line.kind for line in RETAINED] == list(RetentionKind)


def test_what_carries_its_own_time_has_no_days() -> None:
    assert all(line.default_days is None for line in RETAINED if line.setting is None)
    assert [line.kind for line in RETAINED if line.setting is not None and line.default_days is None] == [RetentionKind.AUDIT]


def test_the_policy_tells_for_ever_from_a_time_of_its_own() -> None:
    days = {kind: None for kind in RetentionKind} | {RetentionKind.WORKERS: 7.0}
    rules = {rule.kind: rule for rule in policy_of(days, 60.0).rules}
    assert (rules[RetentionKind.WORKERS].keep_days, rules[RetentionKind.WORKERS].has_own_time) == (7.0, False)
    assert (rules[RetentionKind.AUDIT].keep_days, rules[RetentionKind.AUDIT].has_own_time) == (None, False)
    assert rules[RetentionKind.CAPTURED_PROMPTS].has_own_time
    assert rules[RetentionKind.UPLOADS].part is RetentionPart.REGISTRY


def test_a_request_has_no_other_fields() -> None:
    with pytest.raises(ValidationError):
        RetentionRequest.model_validate({"dry": True})
