"""What an evaluate job may not ask for together."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from quantry_core.jobs import EvaluateSpec

COMPARED: dict[str, Any] = {"version": "bard", "against": "bard@1", "corpora": ["tales"]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"corpora": []}, "nothing is asked for"),
        ({"against": None, "attention": True}, "name against and corpora"),
        ({"stride_tokens": 300}, "would never be scored"),
        ({"thresholds": {"kl_mean_nats": 1, "attention_js_max_nats": 1}}, "thresholds on attention_js_max_nats need attention maps"),
        ({"thresholds": {"beauty": 1}}, "there is no metric 'beauty'"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        EvaluateSpec(**COMPARED | changes)


def test_thresholds_on_attention_go_with_it() -> None:
    spec = EvaluateSpec(**COMPARED, attention=True, thresholds={"attention_similarity_min": 0.9})
    assert spec.thresholds == {"attention_similarity_min": 0.9}
