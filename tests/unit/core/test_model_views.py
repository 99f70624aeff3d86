"""Figures of versions, taken from what evidence says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from quantry_core.measurements import Reference
from quantry_core.model_views import EvidenceExcerpt, figures_of
from quantry_core.versions import EvidenceKind

BASE = Reference("ver_1", "bard@1")
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def excerpt(kind: EvidenceKind, name: str, age_h: int = 0, **metrics: Any) -> EvidenceExcerpt:
    return EvidenceExcerpt(kind, name, metrics, NOON - timedelta(hours=age_h))


def test_the_newest_figures_of_each_corpus_and_reference_are_taken() -> None:
    figures = figures_of(
        [
            excerpt(EvidenceKind.GATE, "precision", bits_per_weight=4.5, bits_per_parameter=5.7),
            excerpt(EvidenceKind.EVALUATION, "kjv@1", 1, against="bard@1", against_version_id="ver_1", perplexity_ratio=1.01),
            excerpt(EvidenceKind.GATE, "quality", 2, corpora={"kjv@1": {"perplexity_ratio": 1.5}, "plays@1": {"kl_mean_nats": 0.1}}),
            excerpt(EvidenceKind.EVALUATION, "kjv@1", 3, against="bard@2", against_version_id="ver_2", perplexity_ratio=1.2),
            excerpt(EvidenceKind.EVALUATION, "speed", memory_peak_bytes=5_000),
        ],
        BASE,
    )
    assert (figures.bits_per_weight, figures.bits_per_parameter, figures.memory_peak_bytes) == (4.5, 5.7, 5000)
    told = [(one.corpus, one.against, one.kind, one.perplexity_ratio, one.kl_mean_nats) for one in figures.quality]
    assert told == [
        ("kjv@1", "bard@1", "evaluation", 1.01, None),
        ("kjv@1", "bard@2", "evaluation", 1.2, None),
        ("plays@1", "bard@1", "gate", None, 0.1),
    ]


def test_what_says_nothing_of_quality_is_left_out() -> None:
    figures = figures_of(
        [
            excerpt(EvidenceKind.GATE, "quality", corpora={"kjv@1": {"perplexity_ratio": True}, "odd": 3}),
            excerpt(EvidenceKind.EVALUATION, "kjv@1", perplexity_ratio=1.01),
            excerpt(EvidenceKind.EVALUATION, "kjv@1", against="bard@1", against_version_id="ver_1", perplexity=12.0),
        ],
        BASE,
    )
    assert figures == (None, None, None, [])
    assert figures_of([excerpt(EvidenceKind.GATE, "quality", corpora={"kjv@1": {"perplexity_ratio": 1.0}})], None).quality == []
