"""Merge specs: what is given is used, or refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from quantry_core.jobs import MergeSpec

ONE: dict[str, Any] = {"adapters": [{"adapter": "bard@2"}]}
TWO: dict[str, Any] = {"adapters": [{"adapter": "bard@2"}, {"adapter": "bard@3"}]}
MEASURED: dict[str, Any] = {"measure": True, "validation_file": "exam"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"validation_file": "exam"}, "leave validation_file out"),
        ({"corpora": ["plays"], "window_tokens": 128}, "leave corpora and window_tokens out"),
        ({"max_windows": 8}, "leave max_windows out"),
        ({"max_windows": None}, "leave max_windows out"),
        ({"seed": 7}, "linear draws nothing"),
    ],
)
def test_what_a_plain_merge_does_not_read_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        MergeSpec.model_validate(ONE | fields)
    MergeSpec.model_validate(ONE | MEASURED | fields)


def test_a_seed_is_of_what_draws() -> None:
    for combination in ("dare_linear", "dare_ties"):
        assert MergeSpec.model_validate(TWO | {"combination": combination, "seed": 7}).seed == 7
    with pytest.raises(ValidationError, match="ties draws nothing"):
        MergeSpec.model_validate(TWO | {"combination": "ties", "seed": 7})


@pytest.mark.parametrize("fields", [ONE, ONE | MEASURED, TWO | {"combination": "dare_ties", "seed": 7}])
def test_a_kept_spec_is_read_again(fields: dict[str, Any]) -> None:
    spec = MergeSpec.model_validate(fields)
    assert MergeSpec.model_validate(spec.model_dump(mode="json")) == spec
