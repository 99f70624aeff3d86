"""For how long things are kept, as the environment says it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from quantry_api.retention.settings import RENAMED, RetentionSettings
from quantry_core.retention import RETAINED, RetentionKind, RetentionPart
from quantry_store.transactions.retention import STEPS


def test_the_table_and_the_settings_say_the_same() -> None:
    assert RetentionSettings().keep_days == {line.kind: line.default_days for line in RETAINED}


def test_every_kind_of_the_api_has_a_step_and_every_step_a_kind() -> None:
    assert list(STEPS) == [line.kind for line in RETAINED if line.part is RetentionPart.API]
    own_time = {line.kind for line in RETAINED if line.part is RetentionPart.API and line.setting is None}
    assert own_time <= {kind for kind, step in STEPS.items() if step.runs_for_ever}


def test_zero_is_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTRY_LOG_KEEP_DAYS", "0")
    monkeypatch.setenv("QUANTRY_AUDIT_KEEP_DAYS", "400")
    found = RetentionSettings().keep_days
    assert (found[RetentionKind.JOB_EVENTS], found[RetentionKind.AUDIT]) == (None, 400.0)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("QUANTRY_LOG_KEEP_DAYS", "-1", "greater than or equal to 0"),
        ("QUANTRY_WORKER_KEEP_DAYS", "for ever", "valid number"),
        ("QUANTRY_TRAFFIC_KEEP_DAYS", "1e9", "less than or equal to 36500"),
        ("QUANTRY_QUARANTINE_KEEP_DAYS", "nan", "36500|greater"),
        ("QUANTRY_AUDIT_KEEP_DAYS", "0.5", "at least 1 day, or 0 for ever"),
        ("QUANTRY_IDEMPOTENCY_KEEP_DAYS", "0.01", "at least 0.05, or 0 for ever"),
        *((old, "60", f"{old} is {new} now") for old, new in RENAMED.items()),
    ],
)
def test_bad_values_are_refused_with_their_names(monkeypatch: pytest.MonkeyPatch, name: str, value: str, words: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError, match=words):
        RetentionSettings()
