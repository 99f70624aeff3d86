"""Two versions side by side."""

from __future__ import annotations

from factories.client import MASTER_ID, QUANTIZED_ID, lineage
from factories.described import TOKENIZER, described_master, described_quantized, evidence
from quantry_core.comparisons import Relation, compare, differences, relation_of
from quantry_core.versions import EvidenceKind, Lineage, LineageLink, LineageNode, Verdict


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
            evidence(EvidenceKind.EVALUATION, "plays.test@1", perplexity=20.0, verdict=Verdict.FAIL, note="text", ok=True),
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


def of(version_id: str, base: str | None) -> Lineage:
    nodes = [LineageNode(id=version_id, noun="version", label=version_id, kind="quantized", state="ready")]
    nodes += [LineageNode(id="dat_1", noun="dataset", label="plays@1", kind="text", state="ready")]
    links = [LineageLink.model_validate({"child_id": version_id, "parent_id": "dat_1", "role": "calibration"})]
    if base is not None:
        nodes.append(LineageNode(id=base, noun="version", label=base, kind="master", state="ready"))
        links.append(LineageLink.model_validate({"child_id": version_id, "parent_id": base, "role": "base"}))
    return Lineage(version_id=version_id, nodes=nodes, links=links)


def test_how_two_versions_are_related() -> None:
    quantized = lineage()
    master = quantized.model_copy(update={"version_id": MASTER_ID})
    assert relation_of(quantized, quantized) is Relation.SAME
    assert relation_of(master, quantized) is Relation.ANCESTOR
    assert relation_of(quantized, master) is Relation.DESCENDANT
    assert relation_of(quantized, of("ver_3", MASTER_ID)) is Relation.SIBLINGS
    # The same text for calibration makes no family.
    assert relation_of(of("ver_4", None), of("ver_5", None)) is Relation.UNRELATED
    assert quantized.version_id == QUANTIZED_ID
