"""The rows of the table: method, scheme, group size, options, and what is asked of the quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from quantry_core.jobs import CalibrationSpec, QualitySpec, QuantizeSpec
from quantry_core.methods import METHODS, SCHEMES, GroupSize, Method, OptionValue, Scheme

CALIBRATION = ("kjv.calibration", "shakespeare.calibration", "speeches.calibration")
CORPORA = ("kjv.test", "shakespeare.test", "speeches.test", "jargon.test")
NUM_SAMPLES, LENGTH_TOKENS = 66, 256
MAX_WINDOWS = 64

ASKED_NATS: dict[float, float] = {2: 4.0, 3: 0.6, 4: 0.15, 5.5: 0.1, 16: 0.02}
"""The mean KL divergence from the master, in nats, that a checkpoint may have at most on any of the texts, by its bits a weight. A
model of 6 million weights reacts more than a large one. Perplexity would be no measure here: on the unseen domain, where the master
only guesses, errors of rounding move it by some percent either way (ADR 9)."""


@dataclass(frozen=True)
class Case:
    """One row."""

    method: Method
    scheme: Scheme
    group_size: GroupSize | None = None
    options: Mapping[str, OptionValue] = field(default_factory=dict)
    has_bare: bool = False
    """The row is compared with a script of the same library that knows nothing of the platform."""

    @property
    def name(self) -> str:
        size = "" if self.group_size is None else f" g{self.group_size}" if isinstance(self.group_size, int) else f" {self.group_size}"
        options = "".join(f", {name} {str(value).lower()}" for name, value in self.options.items())
        return f"{self.method} {self.scheme}{size}{options}"

    def spec(self, base: str) -> QuantizeSpec:
        """Returns the job, its quality measured on windows of the four test texts."""
        info = METHODS[self.method]
        needs_text = info.needs_calibration(self.scheme)
        text = CalibrationSpec(datasets=list(CALIBRATION), num_samples=NUM_SAMPLES, length_tokens=LENGTH_TOKENS)
        nats = next(bound for limit, bound in sorted(ASKED_NATS.items()) if bits_of(self.scheme) <= limit)
        quality: dict[str, Any] = {"corpora": list(CORPORA), "thresholds": {"kl_mean_nats": nats}, "max_windows": MAX_WINDOWS}
        return QuantizeSpec(
            base=base,
            method=self.method,
            scheme=self.scheme,
            group_size=self.group_size,
            options=dict(self.options),
            calibration=text if needs_text else None,
            quality=QualitySpec.model_validate(quality),
        )


def bits_of(scheme: Scheme) -> float:
    """Returns the bits of one weight."""
    return SCHEMES[scheme].weight_bits


CASES: tuple[Case, ...] = (
    Case(Method.RTN, Scheme.W8A16, 128),
    Case(Method.RTN, Scheme.W4A16, 128),
    Case(Method.RTN, Scheme.W4A16, 64),
    Case(Method.RTN, Scheme.W4A16, 64, {"symmetric": False}),
    Case(Method.RTN, Scheme.W3A16, 64),
    Case(Method.RTN, Scheme.W2A16, 64),
    Case(Method.HQQ, Scheme.W4A16, 64),
    Case(Method.HQQ, Scheme.W3A16, 64),
    Case(Method.HQQ, Scheme.W2A16, 32),
    Case(Method.GPTQ, Scheme.W8A16, 128),
    Case(Method.GPTQ, Scheme.W4A16, "channel"),
    Case(Method.GPTQ, Scheme.W4A16, 128, has_bare=True),
    Case(Method.GPTQ, Scheme.W4A16, 64),
    Case(Method.GPTQ, Scheme.W3A16, 64),
    Case(Method.GPTQ, Scheme.W2A16, 64),
    Case(Method.GPTQ, Scheme.W4A8, 128),
    Case(Method.GPTQMODEL, Scheme.W4A16, 128),
    Case(Method.GPTQMODEL, Scheme.W8A16, 128),
    Case(Method.AWQ, Scheme.W4A16, 128, has_bare=True),
    Case(Method.AWQ, Scheme.W3A16, 64),
    Case(Method.AUTOROUND, Scheme.W4A16, 128, {"preset": "light"}, has_bare=True),
    Case(Method.AUTOROUND, Scheme.W4A16, 128),
    Case(Method.AUTOROUND, Scheme.W3A16, 64),
    Case(Method.AUTOROUND, Scheme.W2A16, 64),
    Case(Method.SMOOTHQUANT, Scheme.W8A8),
    Case(Method.FP8, Scheme.FP8_DYNAMIC),
    Case(Method.FP8, Scheme.FP8),
    Case(Method.NVFP4, Scheme.NVFP4A16),
    Case(Method.NVFP4, Scheme.NVFP4),
    Case(Method.MXFP4, Scheme.MXFP4A16),
    Case(Method.MXFP4, Scheme.MXFP4),
    Case(Method.KV_CACHE, Scheme.KV_FP8),
    Case(Method.BITSANDBYTES, Scheme.NF4),
    Case(Method.BITSANDBYTES, Scheme.INT8),
    Case(Method.GGUF, Scheme.Q8_0),
    Case(Method.GGUF, Scheme.Q5_K_M),
    Case(Method.GGUF, Scheme.Q4_K_M),
    Case(Method.EETQ, Scheme.W8A16),
)
