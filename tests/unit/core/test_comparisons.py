"""Two versions side by side."""

from __future__ import annotations

from typing import Any

from factories.client import MASTER_ID, QUANTIZED_ID
from factories.described import AGAINST_MASTER, AGAINST_OTHER, TOKENIZER, described_master, described_quantized, evidence, wholly_measured
from quantry_core.comparisons import Descent, Relation, compare, differences, relation_of
from quantry_core.versions import Evidence, EvidenceKind, Verdict


def test_files_are_compared_by_path_and_by_bytes() -> None:
    master, quantized = described_master(), described_quantized()
    found = compare(master, quantized, Relation.ANCESTOR)
    assert [file.path for file in found.added] == ["recipe.yaml"]
    assert found.removed == []
    assert [change.right.path for change in found.changed] == ["config.json", "model.safetensors"]
    assert (found.num_equal_files, found.shared_bytes) == (1, len(TOKENIZER))
    assert found.size_difference_bytes == quantized.size_bytes - master.size_bytes < 0


def test_a_moved_file_is_shared_all_the_same() -> None:
    left = described_master()
    moved = [file.model_copy(update={"path": f"weights/{file.path}"}) for file in left.files]
    found = compare(left, left.model_copy(update={"files": moved}), Relation.UNRELATED)
    assert found.shared_bytes == left.size_bytes
    assert found.num_equal_files == 0


def test_recipes_are_told_by_dotted_keys() -> None:
    assert [(item.key, item.left, item.right) for item in differences({"a": {"b": 1, "c": [1]}, "d": 1}, {"a": {"b": 2, "c": [1]}})] == [
        ("a.b", 1, 2),
        ("d", 1, None),
    ]
    assert differences({"a": {}}, {"a": {}}) == []


def test_the_newest_evidence_of_each_side_stands_side_by_side() -> None:
    left = described_quantized()
    right = described_quantized(
        evidence=[
            evidence(
                EvidenceKind.EVALUATION, "plays.test@1", perplexity=20.0, verdict=Verdict.FAIL, note="text", ok=True, **AGAINST_MASTER
            ),
            evidence(EvidenceKind.EVALUATION, "kjv.test@1", perplexity=8.0),
        ]
    )
    found = compare(left, right, Relation.SIBLINGS)
    numbers = {(item.name, item.metric): (item.left, item.right, item.difference) for item in found.evidence}
    assert numbers["plays.test@1", "perplexity"] == (20.5, 20.0, -0.5)
    assert numbers["plays.test@1", "perplexity_ratio"] == (1.025, None, None)
    assert numbers["kjv.test@1", "perplexity"] == (None, 8.0, None)
    assert ("plays.test@1", "note") not in numbers and ("plays.test@1", "ok") not in numbers
    verdicts = {(item.kind, item.name): (item.left, item.right) for item in found.verdicts}
    assert verdicts[EvidenceKind.GATE, "files"] == (Verdict.PASS, None)
    assert verdicts[EvidenceKind.EVALUATION, "plays.test@1"] == (Verdict.PASS, Verdict.FAIL)


def test_figures_against_one_version_are_never_compared_with_figures_against_another() -> None:
    def measured(against: dict[str, Any], *, ratio: float, age_s: float = 0.0) -> Evidence:
        figures: dict[str, Any] = {"perplexity": 20.5, "perplexity_ratio": ratio, "window_tokens": 256}
        return evidence(EvidenceKind.EVALUATION, "plays.test@1", age_s=age_s, **figures, **against)

    left = described_quantized(evidence=[measured(AGAINST_MASTER, ratio=1.025, age_s=60), measured(AGAINST_OTHER, ratio=0.9)])
    right = described_quantized(evidence=[measured(AGAINST_MASTER, ratio=1.05)])
    found = compare(left, right, Relation.SIBLINGS)
    assert [(item.against, item.metric, item.left, item.right) for item in found.evidence] == [
        (None, "perplexity", 20.5, 20.5),
        (None, "window_tokens", 256, 256),
        ("bard@1", "perplexity_ratio", 1.025, 1.05),
        ("bard@1", "window_tokens", 256, 256),
        ("bard@4", "perplexity_ratio", 0.9, None),
        ("bard@4", "window_tokens", 256, None),
    ]
    assert [(item.against, item.left, item.right) for item in found.verdicts] == [
        ("bard@1", Verdict.PASS, Verdict.PASS),
        ("bard@4", Verdict.PASS, None),
    ]


def test_a_version_measured_beside_its_master_is_compared_with_the_master_measured_alone() -> None:
    master = described_master(evidence=[evidence(EvidenceKind.EVALUATION, "plays.test@1", perplexity=20.0)])
    found = compare(master, described_quantized(), Relation.ANCESTOR)
    assert [(item.left, item.right, item.difference) for item in found.evidence if item.metric == "perplexity"] == [(20.0, 20.5, 0.5)]


def test_cases_concurrencies_and_the_gates_corpora_are_compared_one_by_one() -> None:
    found = compare(wholly_measured(), wholly_measured(), Relation.SAME)
    pairs = {(item.name, item.metric): (item.left, item.right) for item in found.evidence}
    assert pairs["speed: 4 at once", "ttft_ms_p50"] == (20.0, 20.0)
    assert pairs["extremes: emoji", "kl_mean_nats"] == (0.05, 0.05)
    assert pairs["quality: plays.test@1", "perplexity_ratio"] == (1.01, 1.01)


def test_how_two_versions_are_related() -> None:
    master, quantized = Descent(MASTER_ID, frozenset()), Descent(QUANTIZED_ID, {MASTER_ID})
    assert relation_of(quantized, quantized) is Relation.SAME
    assert relation_of(master, quantized) is Relation.ANCESTOR
    assert relation_of(quantized, master) is Relation.DESCENDANT
    assert relation_of(quantized, Descent("ver_3", {MASTER_ID, "ver_0"})) is Relation.SIBLINGS
    assert relation_of(Descent("ver_4", {"ver_0"}), Descent("ver_5", {"ver_1"})) is Relation.UNRELATED
