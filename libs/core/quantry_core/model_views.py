"""Models as lists show them, and the sizes of a model's versions beside what was measured of their quality. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.gate import GateCheck
from quantry_core.measurements import Reference, numbers
from quantry_core.methods import Format
from quantry_core.names import Name
from quantry_core.thresholds import Part
from quantry_core.versions import EvidenceKind, Model, VersionKind, VersionState

MAX_FIGURES = 2000
"""So many versions of a model are told of at once, the newest."""
QUALITY_METRICS = ("perplexity_ratio", "perplexity_ratio_low", "perplexity_ratio_high", "kl_mean_nats", "top1_agreement")


class AliasTarget(BaseModel):
    """An alias, and the number of the version that it points at."""

    model_config = ConfigDict(frozen=True)

    alias: Name
    number: int


class ListedModel(Model):
    """A model as lists show it: with what its versions are and what its aliases mean."""

    latest_number: int | None = Field(default=None, description="Of the latest version; None where all are deleted.")
    num_quarantined: int = Field(default=0, description="Versions that did not pass their gate, or were held back since.")
    size_bytes: int = Field(default=0, description="Of all its versions; equal files count each time, and are stored once.")
    aliases: list[AliasTarget] = Field(default_factory=list, description="By name.")


class MeasuredQuality(BaseModel):
    """How a version compares with another on one corpus, by the newest evidence."""

    model_config = ConfigDict(frozen=True)

    corpus: str
    against_version_id: str
    against: str = Field(description="name@number")
    kind: EvidenceKind = Field(description="Whether its own gate measured it, or an evaluation.")
    perplexity_ratio: float | None = None
    perplexity_ratio_low: float | None = None
    perplexity_ratio_high: float | None = None
    kl_mean_nats: float | None = None
    top1_agreement: float | None = Field(default=None, description="Share, 0 to 1.")


class VersionFigures(BaseModel):
    """A version's size, and what was measured of its quality."""

    model_config = ConfigDict(frozen=True)

    id: str
    number: int
    kind: VersionKind
    state: VersionState
    format: Format
    scheme: str | None
    dtype: str | None
    size_bytes: int
    weights_bytes: int
    bits_per_weight: float | None = Field(default=None, description="Of the modules that are quantized, scales included; from its gate.")
    bits_per_parameter: float | None = Field(default=None, description="Of the whole model; from its gate.")
    memory_peak_bytes: int | None = Field(default=None, description="Most that an engine held while its speed was measured.")
    quality: list[MeasuredQuality]


class ModelFigures(BaseModel):
    """The versions of a model, newest first, each with its size and quality."""

    model_config = ConfigDict(frozen=True)

    model_name: str
    data: list[VersionFigures]
    has_more: bool = Field(description=f"It has more than {MAX_FIGURES} versions; these are the newest.")


class EvidenceExcerpt(NamedTuple):
    """Of one entry of evidence what figures are taken from."""

    kind: EvidenceKind
    name: str
    metrics: Mapping[str, Any]
    created_at: datetime


class Figures(NamedTuple):
    """What the evidence about one version says of its size and its quality."""

    bits_per_weight: float | None
    bits_per_parameter: float | None
    memory_peak_bytes: int | None
    quality: list[MeasuredQuality]


def figures_of(evidence: Iterable[EvidenceExcerpt], base: Reference | None) -> Figures:
    """Returns the newest figures. ``base``: what the version was made from, which its gate compares with."""
    bits: dict[str, float] = {}
    memory_bytes: int | None = None
    quality: dict[tuple[str, str], MeasuredQuality] = {}
    for one in sorted(evidence, key=lambda excerpt: excerpt.created_at):
        if one.kind is EvidenceKind.GATE and one.name == GateCheck.PRECISION:
            bits = numbers({name: one.metrics.get(name) for name in ("bits_per_weight", "bits_per_parameter")})
        elif one.name == Part.SPEED:
            peak = numbers(one.metrics).get("memory_peak_bytes")
            memory_bytes = memory_bytes if peak is None else int(peak)
        else:
            quality |= {(found.corpus, found.against_version_id): found for found in _quality(one, base)}
    ordered = sorted(quality.values(), key=lambda found: (found.corpus, found.against))
    return Figures(bits.get("bits_per_weight"), bits.get("bits_per_parameter"), memory_bytes, ordered)


def _quality(one: EvidenceExcerpt, base: Reference | None) -> Iterable[MeasuredQuality]:
    if one.kind is EvidenceKind.GATE:
        corpora = one.metrics.get("corpora")
        reference, parts = base, corpora if isinstance(corpora, Mapping) else {}
    else:
        id_, ref = one.metrics.get("against_version_id"), one.metrics.get("against")
        reference = Reference(id_, ref) if isinstance(id_, str) and isinstance(ref, str) else None
        parts = {one.name: one.metrics}
    if reference is None:
        return
    for corpus, metrics in parts.items():
        values = (
            {name: value for name, value in numbers(metrics).items() if name in QUALITY_METRICS} if isinstance(metrics, Mapping) else {}
        )
        if values:
            yield MeasuredQuality(corpus=corpus, against_version_id=reference.id, against=reference.ref, kind=one.kind, **values)
