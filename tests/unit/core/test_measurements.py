"""Evidence taken apart, and how its figures are written."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest

from factories.described import AGAINST_MASTER, AGAINST_OTHER, described_quantized, evidence
from quantry_core.evidence_tables import checks, evidence_tables
from quantry_core.measurements import Figure, figure_text, newest_evidence, parts, reference_of
from quantry_core.versions import EvidenceKind


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (True, "yes"),
        (False, "no"),
        ("words", "words"),
        (12345678, "12345678"),
        (12345678.0, "12345678"),
        (20.0, "20"),
        (1.02345678, "1.02346"),
        (1e-7, "1e-07"),
        (1e300, "1e+300"),
        (-0.5, "-0.5"),
        (0.0, "0"),
        (inf, "inf"),
        (nan, "nan"),
    ],
)
def test_one_rule_writes_every_figure(value: Figure | None, text: str) -> None:
    assert figure_text(value) == text


def test_a_later_run_against_another_version_leaves_the_figures_against_the_first() -> None:
    first = evidence(EvidenceKind.EVALUATION, "plays.test@1", age_s=60, perplexity_ratio=1.5, **AGAINST_MASTER)
    again = evidence(EvidenceKind.EVALUATION, "plays.test@1", age_s=30, perplexity_ratio=1.6, **AGAINST_MASTER)
    other = evidence(EvidenceKind.EVALUATION, "plays.test@1", perplexity_ratio=0.9, **AGAINST_OTHER)
    newest = newest_evidence(described_quantized(evidence=[other, first, again]))
    assert {key.reference: one.metrics["perplexity_ratio"] for key, one in newest.items()} == {
        reference_of(first): 1.6,
        reference_of(other): 0.9,
    }


@pytest.mark.parametrize("name", ["quality", "extremes", "speed", "plays.test@1"])
def test_whatever_a_worker_reports_can_be_taken_apart(name: str) -> None:
    for junk in (None, 1, "words", [1, None], {"a": 1}):
        metrics: dict[str, Any] = {
            "corpora": junk,
            "cases": junk,
            "tasks": junk,
            "levels": junk,
            "thresholds": junk,
            "problems": junk,
            "against_version_id": junk,
        }
        for kind in EvidenceKind:
            one = evidence(kind, name, **metrics)
            assert reference_of(one) is None
            assert all(isinstance(found, dict) for found in parts(one).values())
            assert len(checks(described_quantized(evidence=[one]))) == (kind is EvidenceKind.GATE)
            assert all(table.title for table in evidence_tables(described_quantized(evidence=[one])))
