"""Preflight estimates: what a job will take, told from safetensors headers, config.json and the spec. docs/estimates.md says how."""

from quantry_core.estimates.facts import CheckpointFacts, StoredTensor, facts_of
from quantry_core.estimates.figures import (
    MAX_EARLIER_JOBS,
    MIN_EARLIER_JOBS,
    EarlierJob,
    Given,
    actual_figures,
    corrected,
    corrections,
    estimate_figures,
    estimate_key,
    ratios,
)
from quantry_core.estimates.fitting import fitting_changes
from quantry_core.estimates.sizes import quantized_facts, safetensors_bytes
from quantry_core.estimates.training import finetune_peak_bytes, is_packed

__all__ = [
    "MAX_EARLIER_JOBS",
    "MIN_EARLIER_JOBS",
    "CheckpointFacts",
    "EarlierJob",
    "Given",
    "StoredTensor",
    "actual_figures",
    "corrected",
    "corrections",
    "estimate_figures",
    "estimate_key",
    "facts_of",
    "finetune_peak_bytes",
    "fitting_changes",
    "is_packed",
    "quantized_facts",
    "ratios",
    "safetensors_bytes",
]
