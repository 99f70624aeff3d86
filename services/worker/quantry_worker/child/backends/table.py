"""Which library runs a quantization method: one literal table of module names.

A backend is a module with ``quantize(order) -> QuantizationReport``. Names, not functions: a backend's libraries take
seconds to import and are in its own environment only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from quantry_core.checkpoints import CheckpointInfo
from quantry_core.methods import Backend
from quantry_worker.child.libraries import bring_in, load
from quantry_worker.child.plan import QuantizationPlan
from quantry_worker.child.reporter import Units


class BackendProgress(Protocol):
    """What a backend tells of its way."""

    def __call__(self, share: float, detail: str, layers: Units | None = None) -> None: ...


@dataclass(frozen=True)
class QuantizationOrder:
    """All that a backend needs. It writes the compressed weights and config.json into ``output_dir``."""

    plan: QuantizationPlan
    master: CheckpointInfo
    master_dir: Path
    output_dir: Path
    windows: NDArray[np.int64] | None
    """Calibration token ids, shape [num_samples, length_tokens]; None for what looks at weights alone."""
    seed: int
    num_threads: int
    on_progress: BackendProgress
    """Called with the share of the backend's work that is done, from 0 to 1, where it is, and how many layers are done."""


@dataclass(frozen=True)
class QuantizationReport:
    """What a backend did."""

    toolchain: dict[str, str]
    settings: dict[str, Any] = field(default_factory=dict)
    """What it chose itself; becomes part of the version's recipe."""
    metrics: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Sentences the user should read."""


Quantizer = Callable[[QuantizationOrder], QuantizationReport]

BACKENDS: dict[Backend, str] = {
    Backend.LLM_COMPRESSOR: "quantry_worker.child.backends.llm_compressor",
    Backend.AUTO_ROUND: "quantry_worker.child.backends.auto_round",
    Backend.GPTQMODEL: "quantry_worker.child.backends.gptqmodel",
    Backend.HQQ: "quantry_worker.child.backends.hqq",
    Backend.BITSANDBYTES: "quantry_worker.child.backends.bitsandbytes",
    Backend.EETQ: "quantry_worker.child.backends.eetq",
}


LEFT_OUT_OTHERWISE = {Backend.HQQ: "hqq"}
"""Libraries that a child has only where its method is theirs."""


def load_backend(backend: Backend) -> Quantizer:
    """Returns the backend's function; raises ImportError naming the library that is missing from this environment."""
    if backend in LEFT_OUT_OTHERWISE:
        bring_in(LEFT_OUT_OTHERWISE[backend])
    return cast(Quantizer, load(BACKENDS[backend]).quantize)
