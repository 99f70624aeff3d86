"""Fingerprints: two quantize jobs with the same one make the same version.

A fingerprint covers the master's digest, the recipe, the digests of the calibration text, and the toolchain that runs it. All
but the toolchain is known when a job is released; the toolchain is that of the worker which claims it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

from quantry_core.jobs import QuantizeSpec, chosen


def recipe_digest(spec: QuantizeSpec, *, master_digest: str, calibration_sha256: Sequence[str], quality_sha256: Sequence[str]) -> str:
    """Returns the SHA-256 (hex) of all that decides what a quantize job makes, but for the toolchain.

    ``master_digest`` is the base's manifest digest; the others are the texts' digests in the order of the spec, which decides
    what is drawn from which. What quality was asked for counts too: a version that passed an easier gate is not the same.
    Names of the base and of the datasets do not count, nor does a default written out.
    """
    choice = chosen(spec)
    left_out = {"base", "calibration", "method", "scheme", "group_size", "options", "ignore", "keep_16bit"}
    recipe = spec.model_dump(mode="json", exclude=left_out | {"quality"})
    calibration = None if spec.calibration is None else spec.calibration.model_dump(mode="json", exclude={"datasets"})
    quality = None if spec.quality is None else spec.quality.model_dump(mode="json", exclude={"corpora"})
    return _digest(
        {
            "master": master_digest,
            "method": choice.info.method,
            "weights": asdict(choice.weights),
            "options": dict(choice.options),
            "recipe": recipe | {"kept": sorted(set(spec.kept_patterns))},
            "calibration": [calibration, list(calibration_sha256)],
            "quality": [quality, list(quality_sha256)],
        }
    )


def fingerprint(recipe: str, toolchain: str) -> str:
    """Returns the SHA-256 (hex) of a recipe digest together with a toolchain digest."""
    return _digest([recipe, toolchain])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
