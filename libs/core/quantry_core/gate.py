"""The gate that every quantized version passes before it is ready: its checks by name, shared by worker and control plane."""

from __future__ import annotations

from enum import StrEnum

from quantry_core.jobs import QualitySpec
from quantry_core.methods import Format
from quantry_core.versions import Verdict


class GateCheck(StrEnum):
    """One file each in the worker's ``child/gate``, in the order in which they run."""

    FILES = "files"
    """Every file is whole; what was not to change is the master's: tokenizer, chat template, config."""
    TENSORS = "tensors"
    """Names, shapes and dtypes agree with config.json and quantization_config; what is not quantized is the master's."""
    PRECISION = "precision"
    """Effective bits of each module are as asked; ignored modules are 16 bit."""
    FUSED_GROUPS = "fused-groups"
    """Modules that engines fuse share one scheme."""
    SCALES = "scales"
    """Scales and zero points are finite, fitted, and packed as the layout says."""
    KV_SCALES = "kv-scales"
    """Scales of the KV cache were calibrated where they were asked for."""
    RECONSTRUCTION = "reconstruction"
    """Dequantized weights are near the master's, row by row and group by group."""
    READER = "reader"
    """A reader that did not write it loads it; its logits are finite and near those of the dequantized weights."""
    ENGINE = "engine"
    """vLLM loads it and agrees with that reader. Only where a worker has an engine at hand."""
    QUALITY = "quality"
    """Quality against the master is within the job's thresholds."""


OPTIONAL_CHECKS = frozenset({GateCheck.ENGINE})
UNREADABLE_FORMATS = frozenset({Format.EETQ})
"""Formats whose weights their own kernels alone read: there is nothing to compare with the master, weight by weight."""


def required_checks(quality: QualitySpec | None) -> frozenset[GateCheck]:
    """Returns the checks that must have been made, and let it pass, before a version is ready."""
    left_out = OPTIONAL_CHECKS if quality is not None else OPTIONAL_CHECKS | {GateCheck.QUALITY}
    return frozenset(GateCheck) - left_out


def lets_pass(check: str, verdict: Verdict, form: Format) -> bool:
    """Tells whether a check does not stand in the way of a version in a format: it passed, or it is one that has no data there.

    Those are optional checks, and ``reconstruction`` where the format's weights cannot be read.
    """
    without_data = OPTIONAL_CHECKS | {GateCheck.RECONSTRUCTION} if form in UNREADABLE_FORMATS else OPTIONAL_CHECKS
    return verdict is Verdict.PASS or (verdict is Verdict.INCONCLUSIVE and check in without_data)
