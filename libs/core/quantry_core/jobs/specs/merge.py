"""Merge jobs: adapters become part of 16-bit weights."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from quantry_core.jobs.specs.quantize import QuantizationRecipe
from quantry_core.jobs.specs.references import DatasetRef, Spec, Suffix, VersionRef
from quantry_core.jobs.states import JobType
from quantry_core.training import AdapterMerge

AS_BASE: Literal["as-base"] = "as-base"
"""By the recipe of the quantized version that the adapters were trained on; not at all where that is 16-bit."""


_OF_MEASURE = ("validation_file", "corpora", "window_tokens", "max_windows")
_DRAWING = frozenset({AdapterMerge.DARE_LINEAR, AdapterMerge.DARE_TIES})


class AdapterShare(Spec):
    """One of several adapters, and what it counts for."""

    adapter: VersionRef
    weight: float = Field(default=1.0, ge=-10, le=10)


class MergeSpec(Spec):
    """Merges adapters into the 16-bit master and quantizes the result."""

    type: Literal[JobType.MERGE] = JobType.MERGE
    adapters: list[AdapterShare] = Field(min_length=1, max_length=8, description="All trained on one version.")
    combination: AdapterMerge = Field(default=AdapterMerge.LINEAR, description="How several become one; one alone is scaled by its weight.")
    density: float | None = Field(
        default=None, gt=0, le=1, description="Of ties and dare: the share of each update that is kept; 0.5 where not given."
    )
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Of what dare drops, and of measure: of its intervals.")
    quantize: QuantizationRecipe | Literal["as-base"] | None = Field(
        default=AS_BASE, description="The job that follows quantizes so. null: the merged 16-bit version is all."
    )
    measure: bool = Field(
        default=False,
        description="Tries merging into the dequantized base too, and the adapter beside the quantized one; takes the best of the three.",
    )
    validation_file: DatasetRef | None = Field(default=None, description="Of measure: rows whose answers the three are judged by.")
    corpora: list[DatasetRef] = Field(default_factory=list, max_length=16, description="Of measure: text for perplexity and KL.")
    window_tokens: int = Field(default=256, ge=16, le=32768, description="Of measure: length of one scored window.")
    max_windows: int | None = Field(default=64, ge=1, description="Of measure: scores only the first windows of each of corpora.")
    suffix: Suffix | None = Field(
        default=None, description="The merged version is of model <base>-<suffix>; of the base's own where not given."
    )

    @model_validator(mode="after")
    def _can_be(self) -> Self:
        if self.density is not None and self.combination is AdapterMerge.LINEAR:
            raise ValueError("density is of ties and dare; linear keeps everything")
        if len(self.adapters) == 1 and self.combination is not AdapterMerge.LINEAR:
            raise ValueError(f"{self.combination} settles conflicts between several adapters; there is one")
        refs = [share.adapter for share in self.adapters]
        if len(set(refs)) != len(refs):
            raise ValueError("an adapter is named twice")
        if self.measure and self.validation_file is None:
            raise ValueError("measure judges by rows that were held out: name validation_file")
        # A spec that was kept has every field: what is as it would be without being given is not refused.
        of_measure = [] if self.measure else [name for name in _OF_MEASURE if self._is_given(name)]
        if of_measure:
            raise ValueError(f"without measure nothing is scored: set it, or leave {' and '.join(of_measure)} out")
        if not self.measure and self.combination not in _DRAWING and self._is_given("seed"):
            raise ValueError(f"seed is of dare and of measure; {self.combination} draws nothing: leave it out")
        if self.measure and self.quantize is None:
            raise ValueError("measure compares quantized results: leave quantize out, or give a recipe")
        return self

    def _is_given(self, name: str) -> bool:
        """Tells whether a field has another value than where it is not given."""
        return bool(getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True))
