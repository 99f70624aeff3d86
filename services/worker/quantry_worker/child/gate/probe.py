"""The fixed text that readers and engines are compared on, and how near their answers must be.

The tolerances are mean KL divergences in nats over the probe's tokens, from measurements on the example model (docs/gate.md):
far above what arithmetic does, far below what a wrong zero point, a swapped layer or scales that were not read do (0.5 and up).
"""

from __future__ import annotations

from quantry_core.methods import SCHEMES, Activations, Scheme
from quantry_worker.child.plan import QuantizationPlan

TEXT = (
    "The old house at the end of the lane had been empty for years, and nobody in the village could say who had lived there last. "
    "On winter evenings the children dared one another to knock at its door and run. When the king heard of this he sent his son, "
    "saying: Go, and see whether these things be true; and if there be any man within, ask him his name. The ministers of the "
    "government have asked whether 3 of every 10 families can pay what they owe. I say to you, friends: they cannot, and we will "
    "not rest until they can."
)

WEIGHTS_ALONE_NATS = 0.001
"""The same weights in two programs that round nothing else. Measured: 0 to 6e-5 (nf4 in 16-bit arithmetic)."""
EIGHT_BIT_ACTIVATIONS_NATS = 0.03
"""One of them rounds activations or the KV cache to 8 bits. Measured: up to 0.0063."""
FOUR_BIT_ACTIVATIONS_NATS = 0.4
"""One of them rounds activations to 4 bits. Measured: 0.084."""
MASTER_NATS = ((8, 0.1), (4, 0.6), (3, 1.2), (0, 3.0))
"""From the master, by the fewest bits of a module: a bound on what is no rounding, not on quality, which has a gate of its own.
Measured: 0.003 at 8 bits, 0.06 at 4 (0.11 with activations), 0.25 at 3, 1.03 at 2."""


def activations_nats(plan: QuantizationPlan) -> float:
    """Returns how far a program that rounds activations may be from one that does not."""
    schemes = {target.weights.scheme for target in plan.targets.values()} or {plan.scheme}
    activations = {SCHEMES[scheme].activations for scheme in schemes}
    if Activations.FP4_LOCAL in activations:
        return FOUR_BIT_ACTIVATIONS_NATS
    # LLM.int8 rounds what it multiplies to int8, though it is stored as a scheme for weights alone.
    if plan.has_kv_scales or activations != {Activations.SIXTEEN_BIT} or Scheme.INT8 in schemes:
        return EIGHT_BIT_ACTIVATIONS_NATS
    return WEIGHTS_ALONE_NATS


def master_nats(plan: QuantizationPlan) -> float:
    """Returns how far the checkpoint may be from its master."""
    bits = min((target.weights.bits for target in plan.targets.values()), default=8.0)
    bound = next(nats for lowest, nats in MASTER_NATS if bits >= lowest)
    return max(bound, activations_nats(plan))
