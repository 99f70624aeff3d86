"""Figures in words, their order, and which of them compare."""

from __future__ import annotations

from quantry_core.figure_words import in_order, needs_reference, words_of
from quantry_core.metrics import METRICS


def test_metrics_come_first_then_what_only_a_task_knows_then_settings() -> None:
    names = ["seed", "acc_stderr", "reference_acc", "kl_mean_nats", "reference_perplexity", "acc", "num_windows", "perplexity", "runs"]
    expected = ["perplexity", "reference_perplexity", "kl_mean_nats", "runs", "acc", "reference_acc", "acc_stderr", "num_windows", "seed"]
    assert in_order(names) == expected


def test_every_metric_has_words_and_its_reference_has_them_too() -> None:
    assert all(words_of(name) == METRICS[name].words for name in METRICS)
    assert words_of("reference_perplexity") == "The reference's own: exp of the mean negative log-likelihood."
    assert words_of("acc") == words_of("reference_acc") == ""


def test_what_compares_is_told_from_what_is_of_one_version() -> None:
    assert all(map(needs_reference, ["perplexity_ratio", "reference_acc", "acc_change", "confidence"]))
    assert not any(map(needs_reference, ["perplexity", "nll_mean", "acc", "ttft_ms_p50", "num_tokens"]))
