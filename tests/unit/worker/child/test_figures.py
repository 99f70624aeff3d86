"""From tokens to figures, and from figures to verdicts."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from quantry_core.metrics import ATTENTION_METRICS, METRICS
from quantry_core.versions import EvidenceDraft, EvidenceKind, Verdict
from quantry_worker.child.evaluation.figures import ReferenceScores, TokenScores, figures, figures_beside
from quantry_worker.child.evaluation.results import write_results, write_rows, write_tokens
from quantry_worker.child.evaluation.verdicts import (
    broken_thresholds,
    missing_figures,
    verdict,
    worst,
)

NUM_WINDOWS, TOKENS = 10, 20


def scores(seed: int = 0) -> TokenScores:
    generator = np.random.default_rng(seed)
    nll, reference = generator.gamma(2.0, 1.5, size=(2, NUM_WINDOWS * TOKENS))
    kl = generator.gamma(0.5, 0.1, size=NUM_WINDOWS * TOKENS)
    window = np.repeat(np.arange(NUM_WINDOWS), TOKENS)
    return TokenScores(nll, window, ReferenceScores(reference, kl, generator.random(nll.size) < 0.9))


def test_figures_are_what_their_definitions_say() -> None:
    given = scores()
    reference = given.reference
    assert reference is not None
    found = figures(given, seed=1)
    changes = [ours - theirs for ours, theirs in zip(given.nll.tolist(), reference.nll.tolist(), strict=True)]
    in_order = sorted(reference.kl.tolist())
    assert found["perplexity"] == pytest.approx(math.exp(math.fsum(given.nll) / given.nll.size))
    assert found["reference_perplexity"] == pytest.approx(math.exp(math.fsum(reference.nll) / given.nll.size))
    assert found["perplexity_ratio"] == pytest.approx(float(found["perplexity"] or 0) / float(found["reference_perplexity"] or 1))
    assert found["nll_increase_nats"] == pytest.approx(math.fsum(changes) / len(changes))
    assert found["logprob_error_mean_nats"] == pytest.approx(math.fsum(map(abs, changes)) / len(changes))
    assert found["kl_max_nats"] == in_order[-1]
    # Of 200 values the 99.9th percentile lies four fifths of the way from the last but one to the last: 0.999 * 199 = 198.801.
    assert found["kl_p999_nats"] == pytest.approx(in_order[198] + 0.801 * (in_order[199] - in_order[198]))
    assert found["top1_agreement"] == sum(reference.same_top1.tolist()) / 200
    assert found["perplexity_ratio_high"] == pytest.approx(math.exp(float(found["nll_increase_high_nats"] or 0)))
    low, middle, high = (float(found[name] or 0) for name in ("nll_increase_low_nats", "nll_increase_nats", "nll_increase_high_nats"))
    assert low < middle < high
    assert (found["num_tokens"], found["num_windows"], found["bootstrap_blocks"]) == (200, 10, 10)
    assert found == figures(given, seed=1)


def test_a_version_against_itself_has_no_change_at_all() -> None:
    one = scores()
    alike = ReferenceScores(one.nll, np.zeros(one.nll.size), np.ones(one.nll.size, dtype=np.bool_))
    found = figures(TokenScores(one.nll, one.window, alike), seed=0)
    assert found["nll_increase_low_nats"] == found["nll_increase_high_nats"] == found["kl_max_nats"] == 0
    assert found["perplexity_ratio"] == found["top1_agreement"] == 1


def test_two_versions_beside_each_other_and_one_master() -> None:
    ours, theirs = scores(), scores(seed=1)
    assert ours.reference is not None and theirs.reference is not None
    found = figures_beside(ours, theirs, seed=1)
    further = [a - b for a, b in zip(ours.reference.kl.tolist(), theirs.reference.kl.tolist(), strict=True)]
    assert found["kl_increase_nats"] == pytest.approx(math.fsum(further) / len(further))
    assert found["kl_from_master_nats"] == pytest.approx(math.fsum(ours.reference.kl) / 200)
    assert found["reference_kl_from_master_nats"] == pytest.approx(math.fsum(theirs.reference.kl) / 200)
    assert found["nll_increase_nats"] == pytest.approx(float(found["nll_mean"] or 0) - math.fsum(theirs.nll) / 200)
    for change in ("kl_increase", "nll_increase"):
        low, middle, high = (float(found[f"{change}{end}_nats"] or 0) for end in ("_low", "", "_high"))
        assert low < middle < high
    same = figures_beside(ours, ours, seed=1)
    assert same["kl_increase_low_nats"] == same["kl_increase_high_nats"] == same["nll_increase_high_nats"] == 0
    with pytest.raises(ValueError, match="master as their reference"):
        figures_beside(ours, TokenScores(ours.nll, ours.window), seed=1)


def test_without_a_reference_and_with_few_windows_figures_are_left_out() -> None:
    given = scores()
    assert set(figures(TokenScores(given.nll, given.window), seed=0)) == {"perplexity", "nll_mean", "num_tokens", "num_windows"}
    few = given.window < 3
    reference = given.reference
    assert reference is not None
    short = ReferenceScores(reference.nll[few], reference.kl[few], reference.same_top1[few])
    found = figures(TokenScores(given.nll[few], given.window[few], short), seed=0)
    assert "perplexity_ratio" in found
    assert not any(name.endswith(("_low", "_high", "_low_nats", "_high_nats")) for name in found)


def test_every_metric_of_the_table_is_measured_somewhere() -> None:
    assert set(METRICS) - set(figures(scores(), seed=0)) == ATTENTION_METRICS


def test_figures_that_are_not_finite_are_told_and_break_nothing_else() -> None:
    given = scores()
    given.nll[3] = np.nan
    found = figures(given, seed=0)
    assert math.isnan(float(found["perplexity"] or 0))
    assert "nll_increase_low_nats" not in found


@pytest.mark.parametrize(
    ("measured", "thresholds", "expected"),
    [
        ({"perplexity_ratio": 1.02}, {"perplexity_ratio": 1.02}, Verdict.PASS),
        ({"perplexity_ratio": 1.03}, {"perplexity_ratio": 1.02}, Verdict.FAIL),
        ({"top1_agreement": 0.8}, {"top1_agreement": 0.9}, Verdict.FAIL),
        ({"perplexity": 20.0}, {"perplexity_ratio": 1.02}, Verdict.INCONCLUSIVE),
        ({"perplexity": 20.0}, {"perplexity": 10.0, "perplexity_ratio": 1.02}, Verdict.FAIL),
        ({"kl_mean_nats": math.nan}, {"kl_mean_nats": 1.0}, Verdict.INCONCLUSIVE),
        ({"perplexity": 20.0}, {}, Verdict.INCONCLUSIVE),
    ],
)
def test_verdicts(measured: dict[str, float], thresholds: dict[str, float], expected: Verdict) -> None:
    assert verdict(measured, thresholds) is expected


def test_thresholds_are_told_in_words() -> None:
    thresholds = {"top1_agreement": 0.9, "kl_mean_nats": 0.1, "attention_similarity_min": 0.9}
    assert broken_thresholds({"top1_agreement": 0.85}, thresholds) == ["top1_agreement is 0.85, at least 0.9 is asked for"]
    assert missing_figures({"top1_agreement": 0.85}, thresholds) == ["kl_mean_nats", "attention_similarity_min"]


def test_the_worst_of_several_is_by_direction_and_only_where_all_have_it() -> None:
    found: list[dict[str, float | None]] = [
        {"perplexity": 4.0, "top1_agreement": 0.8, "kl_mean_nats": None},
        {"perplexity": 5.0, "top1_agreement": 0.9},
    ]
    assert worst(found, ["perplexity", "top1_agreement", "kl_mean_nats"]) == {"perplexity": 5.0, "top1_agreement": 0.8}
    assert worst([], ["perplexity"]) == {}


def test_raw_results_can_be_read_back(tmp_path: Path) -> None:
    given = scores()
    write_tokens(tmp_path / "tokens", "kjv.test@3", given)
    tensors = load_file(tmp_path / "tokens" / "kjv.test-v3.safetensors")
    assert {name: tensor.dtype.name for name, tensor in tensors.items()} == {
        "nll": "float32",
        "window": "int32",
        "reference_nll": "float32",
        "kl": "float32",
        "same_top1": "uint8",
    }
    assert math.exp(tensors["nll"].astype(np.float64).mean()) == pytest.approx(float(figures(given, seed=0)["perplexity"] or 0), rel=1e-6)
    evidence = EvidenceDraft(kind=EvidenceKind.EVALUATION, name="kjv.test@3", verdict=Verdict.PASS, metrics={"perplexity": 2.0})
    write_results(tmp_path, [evidence], {"seed": 7})
    document = json.loads((tmp_path / "results.json").read_text())
    assert (document["seed"], document["evidence"][0]["metrics"]) == (7, {"perplexity": 2.0})
    write_rows(tmp_path, "tasks/one.jsonl", [{"a": "ü"}, {"b": Path("x")}])
    assert (tmp_path / "tasks" / "one.jsonl").read_text() == '{"a": "ü"}\n{"b": "x"}\n'
