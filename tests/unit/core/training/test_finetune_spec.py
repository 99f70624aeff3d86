"""What a fine-tune spec is refused for, and what stands in it where nothing is given."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from quantry_core.jobs import FinetuneSpec
from quantry_core.training import ADAPTER_RATES, FULL_RATES, REWARD_METHODS, TrainingMethod


def spec(method: str, of_method: dict[str, Any] | None = None, **changes: Any) -> FinetuneSpec:
    settings: dict[str, Any] = {"type": method} | (of_method or {})
    if method in REWARD_METHODS:
        settings = {"rewards": [{"name": "json_valid"}]} | settings
    return FinetuneSpec.model_validate({"model": "bard", "training_file": "d", "method": settings} | changes)


@pytest.mark.parametrize(
    ("method", "reason"),
    [("dpo", "compares the model"), ("kto", "compares the model"), ("grpo", "learns from answers"), ("rloo", "learns from answers")],
)
def test_dropout_is_refused_where_a_method_trains_without_it(method: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=f"{method} {reason}.*leave adapter.dropout out"):
        spec(method, adapter={"dropout": 0.1})
    spec(method, adapter={"dropout": 0.0})


@pytest.mark.parametrize("method", ["supervised", "orpo"])
def test_dropout_is_taken_where_a_method_trains_with_it(method: str) -> None:
    adapter = spec(method, adapter={"dropout": 0.1}).adapter
    assert adapter is not None
    assert adapter.dropout == 0.1


def test_kto_needs_another_answer_in_a_batch() -> None:
    with pytest.raises(ValidationError, match="batch_size must be 2 or more"):
        spec("kto", hyperparameters={"batch_size": 1})
    spec("kto", hyperparameters={"batch_size": 2})


def test_a_generated_answer_leaves_room_for_its_prompt() -> None:
    with pytest.raises(ValidationError, match="max_completion_tokens 64 leaves no room for a prompt in sequence_tokens 64"):
        spec("grpo", {"max_completion_tokens": 64}, hyperparameters={"sequence_tokens": 64})
    spec("grpo", {"max_completion_tokens": 63}, hyperparameters={"sequence_tokens": 64})


def test_every_method_has_a_learning_rate_of_an_adapter_and_of_all_weights() -> None:
    assert set(ADAPTER_RATES) == set(FULL_RATES) == set(TrainingMethod)
    assert all(ADAPTER_RATES[method] == pytest.approx(10 * FULL_RATES[method]) for method in TrainingMethod)


@pytest.mark.parametrize(
    ("method", "changes", "expected"),
    [
        ("supervised", {}, 2e-4),
        ("supervised", {"adapter": None}, 2e-5),
        ("dpo", {}, 1e-5),
        ("dpo", {"adapter": None}, 1e-6),
        ("grpo", {"hyperparameters": {"learning_rate": 0.003}}, 0.003),
    ],
)
def test_a_learning_rate_that_is_not_given_is_the_methods_own(method: str, changes: dict[str, Any], expected: float) -> None:
    assert spec(method, **changes).learning_rate == expected
