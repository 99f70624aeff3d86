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
    seed: int = Field(default=0, ge=0, le=2**31 - 1, description="Of what dare drops.")
    quantize: QuantizationRecipe | Literal["as-base"] | None = Field(
        default=AS_BASE, description="The job that follows quantizes so. null: the merged 16-bit version is all."
    )
    measure: bool = Field(
        default=False,
        description="Tries merging into the dequantized base too, and the adapter beside the quantized one; takes the best of the three.",
    )
    validation_file: DatasetRef | None = Field(default=None, description="Of measure: rows whose answers the three are judged by.")
    corpora: list[DatasetRef] = Field(default_factory=list, max_length=16, description="Of measure: text for perplexity and KL.")
    window_tokens: int = Field(default=256, ge=16, le=32768)
    max_windows: int | None = Field(default=64, ge=1)
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
        if not self.measure and (self.validation_file is not None or self.corpora):
            raise ValueError("validation_file and corpora are of measure: set it, or leave them out")
        if self.measure and self.quantize is None:
            raise ValueError("measure compares quantized results: leave quantize out, or give a recipe")
        return self
