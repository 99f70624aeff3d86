"""Check ``kv-scales``: the scales of an fp8 KV cache were calibrated where they were asked for, and are absent elsewhere.

Where a layer was not calibrated engines and libraries take 1.0, and a cache of such scales overflows or rounds to nothing
(FP8 E4M3 reaches 448). A calibrated scale is the largest number seen, over 448: it is exactly 1.0 by chance alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from quantry_core.gate import GateCheck
from quantry_core.versions import EvidenceDraft
from quantry_worker.child.formats.stored import StoredCheckpoint
from quantry_worker.child.gate.findings import GateInput, evidence
from quantry_worker.child.gate.tensors import KV_SCALE

KINDS = ("k_scale", "v_scale")


def check_kv_scales(given: GateInput) -> EvidenceDraft:
    """Returns the evidence; raises SourceRefused if the checkpoint cannot be read at all."""
    stored = given.stored
    names = sorted(name for name in stored.info.tensors if KV_SCALE.fullmatch(name))
    if given.plan.has_kv_scales:
        problems = _problems(stored, names, _num_layers(given.master.config))
    else:
        problems = [f"{name} is there, and no KV cache was asked for" for name in names]
        if stored.has_kv_scheme:
            problems.append("quantization_config has a kv_cache_scheme, and none was asked for")
    metrics: dict[str, Any] = {"num_scales": len(names)}
    return evidence(GateCheck.KV_SCALES, problems, metrics)


def _problems(stored: StoredCheckpoint, names: list[str], num_layers: int | None) -> list[str]:
    problems = [] if stored.has_kv_scheme else ["quantization_config has no kv_cache_scheme, so no engine reads the scales"]
    for kind in KINDS:
        of_kind = [name for name in names if name.endswith(f".{kind}")]
        if not of_kind:
            problems.append(f"there is no {kind}: the KV cache was not calibrated")
            continue
        if num_layers is not None and len(of_kind) != num_layers:
            problems.append(f"there are {len(of_kind)} of {kind}, the model has {num_layers} layers")
        scales = {name: stored.reader.floats(name) for name in of_kind}
        problems += [f"{name} is not finite and positive" for name, one in scales.items() if not (np.isfinite(one) & (one > 0)).all()]
        problems += [
            f"{name} is exactly 1.0, which is what a layer has that was not calibrated" for name, one in scales.items() if (one == 1).any()
        ]
    return problems


def _num_layers(config: Mapping[str, Any]) -> int | None:
    text_config = config.get("text_config")
    known = text_config if isinstance(text_config, dict) else config
    number = known.get("num_hidden_layers")
    return number if isinstance(number, int) else None
