"""What an evaluate job may not ask for together."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from quantry_core.jobs import EvaluateSpec, SpeedSpec, TasksSpec

COMPARED: dict[str, Any] = {"version": "bard", "against": "bard@1", "corpora": ["tales"]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"corpora": []}, "nothing is asked for"),
        ({"against": None, "attention": True}, "name against and corpora"),
        ({"stride_tokens": 300}, "would never be scored"),
        ({"thresholds": {"kl_mean_nats": 1, "attention_js_max_nats": 1}}, "a threshold on attention_js_max_nats needs attention maps"),
        ({"thresholds": {"beauty": 1}}, "there is no metric 'beauty'.*kl_mean_nats.*task:<name>.<metric>"),
        ({"thresholds": {"task:piqa.beauty": 1}}, "there is no metric 'task:piqa.beauty'"),
        ({"thresholds": {"task:piqa.acc": 0.5}}, "needs its task: name it in tasks.names"),
        ({"thresholds": {"task:piqa.acc": 0.5}, "tasks": {"names": ["arc_easy"]}}, "needs its task: name it in tasks.names"),
        ({"thresholds": {"extremes.num_failed": 0}}, "needs the odd inputs"),
        ({"thresholds": {"speed.ttft_ms_p95": 100}}, "needs a measurement of speed"),
        ({"thresholds": {"perplexity": 20}, "corpora": [], "extremes": True}, "needs text to be measured on: name corpora"),
        ({"thresholds": {"perplexity_ratio": 1.1}, "against": None}, "needs a reference: name against"),
        ({"thresholds": {"weights_ratio": 0.3}, "against": None}, "needs a reference: name against"),
        ({"thresholds": {"task:piqa.acc_change": -0.1}, "against": None, "tasks": {"names": ["piqa"]}}, "needs a reference"),
    ],
)
def test_what_cannot_be_measured_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        EvaluateSpec(**COMPARED | changes)


def test_thresholds_on_attention_go_with_it() -> None:
    spec = EvaluateSpec(**COMPARED, attention=True, thresholds={"attention_similarity_min": 0.9})
    assert spec.thresholds == {"attention_similarity_min": 0.9}


def test_thresholds_go_with_everything_that_is_measured() -> None:
    thresholds = {
        "perplexity_ratio": 1.1,
        "task:arc.easy.acc_norm": 0.3,
        "task:arc.easy.exact_match.strict-match": 0.3,
        "task:arc.easy.acc_change": -0.02,
        "extremes.same_tokens": 0.5,
        "speed.output_tokens_per_s": 10,
        "bits_per_parameter": 5,
    }
    spec = EvaluateSpec(**COMPARED, tasks=TasksSpec(names=["arc.easy"]), extremes=True, speed=SpeedSpec(), thresholds=thresholds)
    assert EvaluateSpec.model_validate(spec.model_dump(mode="json")) == spec


def test_the_default_threshold_is_there_where_it_can_be_measured() -> None:
    assert EvaluateSpec(**COMPARED).thresholds == {"perplexity_ratio": 1.02}
    alone = EvaluateSpec(**COMPARED | {"against": None})
    assert alone.thresholds == {}
    assert EvaluateSpec.model_validate(alone.model_dump(mode="json")) == alone
