"""Two versions in rows."""

from __future__ import annotations

from typing import Any

from factories.registry_api import CORPUS, a_version, evidence_of, with_quality
from quantry_core.comparisons import Relation, compare
from quantry_core.stored_modules import StoredModule, StoredModules
from quantry_core.versions import EvidenceKind, VersionDetail
from quantry_dashboard.comparison_view import (
    THE_REFERENCE,
    UNLIKE,
    fact_rows,
    field_rows,
    measured,
    module_rows,
    relation_text,
    size_rows,
    verdict_rows,
)

MASTER = a_version(1)
LEFT, RIGHT = with_quality(a_version(2, base=MASTER), 1.01), with_quality(a_version(3, base=MASTER, scheme="W8A16"), 1.002)
BOTH = compare(LEFT, RIGHT, Relation.SIBLINGS)


def modules(bits: float, *names: str, stored_as: str = "I32 and F16") -> StoredModules:
    data = [StoredModule(name=name, bits_per_weight=bits, stored_as=stored_as, size_bytes=1) for name in names]
    return StoredModules(version_id="ver_1", data=data)


def test_what_they_are_and_how_they_are_related() -> None:
    assert relation_text(BOTH) == "Both were made from one version."
    assert relation_text(compare(MASTER, RIGHT, Relation.ANCESTOR)) == "bard-6m@3 was made from bard-6m@1."
    assert ("scheme", "W4A16", "W8A16") in fact_rows(BOTH)


def test_sizes_are_set_in_relation() -> None:
    rows = {row[0]: row[1:] for row in size_rows(compare(MASTER, RIGHT, Relation.ANCESTOR))}
    assert rows["weights"] == ("11.5 MB", "3.6 MB", "31.3% of the left")
    assert "files of its own" not in rows


def test_what_both_have_beside_one_reference_comes_first_with_its_intervals() -> None:
    rows = {row[:2]: row[2:] for row in measured(BOTH).quality}
    assert rows[f"quality: {CORPUS}", "perplexity_ratio"] == ("1.01 (1.006 to 1.014)", "1.002 (0.998 to 1.006)", "-0.008")
    assert not [name for _, name in rows if name.endswith(("_low", "_high"))]
    assert ("quality (gate)", "pass", "pass") in verdict_rows(BOTH)


def test_what_a_gate_counted_is_no_quality() -> None:
    found = measured(compare(MASTER, RIGHT, Relation.ANCESTOR))
    assert {row[0] for row in found.quality} == {f"quality: {CORPUS}"}
    assert ("precision", "bits_per_weight", "–", "4.5", "–") in found.checks


def evaluated(version: VersionDetail, perplexity: float, num_windows: int, **paired: float) -> VersionDetail:
    """Returns a version with an evaluation on one corpus, beside the master where something was paired."""
    against = {"against_version_id": MASTER.id, "against": MASTER.ref} if paired else {}
    metrics: dict[str, Any] = {"perplexity": perplexity, "num_windows": num_windows, "seed": 1, **paired, **against}
    evidence = evidence_of(version, EvidenceKind.EVALUATION, CORPUS, **metrics)
    return version.model_copy(update={"evidence": [evidence]})


def test_figures_that_were_measured_otherwise_are_not_set_against_each_other() -> None:
    left, right = evaluated(MASTER, 9.0, 132), evaluated(RIGHT, 8.2, 8, kl_mean_nats=0.01)
    found = measured(compare(left, right, Relation.ANCESTOR))
    assert [row[1:] for row in found.quality] == [
        ("kl_mean_nats", THE_REFERENCE, "0.01", "–"),
        ("perplexity", "9", "8.2", UNLIKE),
    ]
    assert len(found.unlike) == 1
    assert "num windows 132 and 8" in found.unlike[0]
    assert [row[1:] for row in found.conditions if row[0] == found.quality[1][0]] == [("num_windows", "132", "8"), ("seed", "1", "1")]
    alike = measured(compare(left, evaluated(RIGHT, 8.2, 132), Relation.ANCESTOR))
    assert [row[1:] for row in alike.quality] == [("perplexity", "9", "8.2", "-0.8")]
    assert alike.unlike == []


def test_fields_that_differ_are_told() -> None:
    recipe = LEFT.model_copy(update={"recipe": {"method": "rtn", "group_size": 128, "ignore": ["lm_head"]}})
    assert field_rows(compare(recipe, RIGHT, Relation.SIBLINGS).recipe) == [("method", "rtn", "gptq")]


def test_modules_of_many_layers_are_one_row() -> None:
    names = [f"model.layers.{number}.mlp.up" for number in range(3)]
    left, right = modules(4.25, *names, "lm_head"), modules(8.25, *names, "lm_head")
    assert module_rows(left, right) == [
        ("model.layers.*.mlp.up (3 modules)", "4.25", "8.25", "I32 and F16", "I32 and F16"),
        ("lm_head", "4.25", "8.25", "I32 and F16", "I32 and F16"),
    ]
    assert module_rows(left, left) == []
    assert module_rows(modules(4.25, "a"), modules(4.2501, "a")) == []
    assert module_rows(modules(4.25, "a"), modules(4.25, "b")) == [
        ("a", "4.25", "–", "I32 and F16", "–"),
        ("b", "–", "4.25", "–", "I32 and F16"),
    ]
