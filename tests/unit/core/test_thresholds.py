"""What the name of a threshold says, and in which direction it bounds."""

from __future__ import annotations

import pytest

from quantry_core.metrics import METRICS, Better
from quantry_core.thresholds import Part, is_within, threshold_of, thresholds_on


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_of_the_table_is_its_own_name(name: str) -> None:
    found = threshold_of(name)
    assert (found.better, found.needs_reference) == (METRICS[name].better, METRICS[name].needs_reference)
    assert found.part is (Part.ATTENTION if name.startswith("attention_") else Part.CORPORA)


@pytest.mark.parametrize(
    ("name", "task", "better", "needs_reference"),
    [
        ("task:piqa.acc", "piqa", Better.HIGHER, False),
        ("task:arc.easy.acc_norm", "arc.easy", Better.HIGHER, False),
        ("task:gsm8k.exact_match.strict-match", "gsm8k", Better.HIGHER, False),
        ("task:gsm8k.exact_match.strict-match_change", "gsm8k", Better.HIGHER, True),
        ("task:wikitext.word_perplexity_change", "wikitext", Better.LOWER, True),
    ],
)
def test_a_task_is_named_with_its_metric(name: str, task: str, better: Better, *, needs_reference: bool) -> None:
    assert threshold_of(name) == (Part.TASKS, better, needs_reference, task)


@pytest.mark.parametrize(
    "name",
    ["task:piqa", "task:acc", "task:.acc", "task:piqa.beauty", "task:piqa.acc.a.b", "extremes.acc", "speed.acc", "acc", "extremes", ""],
)
def test_what_names_no_metric_is_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"there is no metric .*perplexity_ratio.*weights_ratio.*extremes.num_failed.*speed.ttft_ms_p50.*acc_norm"
    ):
        threshold_of(name)


@pytest.mark.parametrize(
    ("name", "value", "bound", "is_kept"),
    [
        ("task:piqa.acc", 0.4, 0.5, False),
        ("task:piqa.acc", 0.5, 0.5, True),
        ("task:piqa.acc_change", -0.03, -0.02, False),
        ("task:wikitext.perplexity", 9.0, 10.0, True),
        ("extremes.top1_agreement", 0.5, 0.9, False),
        ("speed.ttft_ms_p95", 120.0, 100.0, False),
        ("bits_per_parameter", 4.4, 4.5, True),
        ("task:piqa.acc", float("nan"), 0.0, False),
    ],
)
def test_a_bound_is_an_upper_one_where_less_is_better(name: str, value: float, bound: float, *, is_kept: bool) -> None:
    assert is_within(name, value, bound) is is_kept


def test_thresholds_go_where_they_are_measured() -> None:
    asked = {"perplexity": 9.0, "attention_similarity_min": 0.9, "task:piqa.acc": 0.5, "task:arc.acc": 0.4, "weights_bytes": 1.0}
    parts = [thresholds_on(asked, part) for part in (Part.CORPORA, Part.ATTENTION, Part.SIZE)]
    tasks = [thresholds_on(asked, Part.TASKS, task) for task in ("piqa", "arc")]
    assert [list(one) for one in parts + tasks] == [
        [name] for name in ("perplexity", "attention_similarity_min", "weights_bytes", *list(asked)[2:4])
    ]
