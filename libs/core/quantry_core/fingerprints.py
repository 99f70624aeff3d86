"""Fingerprints: two quantize jobs with the same one make the same version.

A fingerprint covers the master's digest, the recipe, the digests of the calibration text, and the toolchain that runs it. All
but the toolchain is known when a job is released; the toolchain is that of the worker which claims it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from quantry_core.jobs import QuantizeSpec
from quantry_core.methods import check_method


def recipe_digest(spec: QuantizeSpec, *, master_digest: str, calibration_sha256: Sequence[str]) -> str:
    """Returns the SHA-256 (hex) of all that decides what a quantize job makes, but for the toolchain.

    ``master_digest`` is the base's manifest digest; ``calibration_sha256`` are the texts' digests in the order of the spec,
    which decides what is drawn from which. Names of the base and of the datasets do not count, nor does a default written out.
    """
    _, scheme, group_size = check_method(spec.method, spec.scheme, spec.group_size)
    recipe = spec.model_dump(mode="json", exclude={"base", "calibration"})
    calibration = spec.calibration.model_dump(mode="json", exclude={"datasets"})
    return _digest(
        {
            "master": master_digest,
            "recipe": recipe | {"scheme": scheme, "group_size": group_size, "ignore": sorted(set(spec.ignore))},
            "calibration": calibration | {"texts": list(calibration_sha256)},
        }
    )


def fingerprint(recipe: str, toolchain: str) -> str:
    """Returns the SHA-256 (hex) of a recipe digest together with a toolchain digest."""
    return _digest([recipe, toolchain])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
