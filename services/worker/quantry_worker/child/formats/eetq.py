"""EETQ: int8 weights per channel, laid out for one generation of tensor cores. Known by its headers alone.

``weight``, int8 [in, out], in an order that only the library's own kernels undo; ``weight_scales`` [out].
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from quantry_core.checkpoints import CheckpointInfo
from quantry_core.errors import SourceRefused
from quantry_core.linears import Shape
from quantry_core.methods import Format, Granularity, NumberType
from quantry_worker.child.formats.stored import Float32, Levels, Part, StatedWeights, StoredCheckpoint
from quantry_worker.child.numerics.tensors import TensorReader

OPAQUE = "EETQ stores weights in the order of a GPU's tensor cores: only its own kernels read them"


@dataclass(frozen=True)
class EetqModule:
    """One module: weight and weight_scales."""

    name: str
    shape: Shape
    stated: StatedWeights
    tensors: TensorReader

    def parts(self) -> Mapping[str, Part]:
        return {
            f"{self.name}.weight": Part(frozenset({"I8"}), (self.shape[::-1],)),
            f"{self.name}.weight_scales": Part(frozenset({"F16"}), ((self.shape[0],),)),
        }

    def levels(self) -> Levels:
        return Levels({f"{self.name}.weight_scales": self.tensors.floats(f"{self.name}.weight_scales")})

    def blocks(self, block_weights: int) -> Iterator[Float32]:  # noqa: ARG002  the protocol's
        raise SourceRefused(OPAQUE)


def open_eetq(info: CheckpointInfo, reader: TensorReader, linears: Mapping[str, Shape]) -> StoredCheckpoint:
    """Returns the checkpoint; raises SourceRefused if quantization_config is not EETQ's."""
    stated = info.config.get("quantization_config")
    if not isinstance(stated, dict) or stated.get("quant_method") != Format.EETQ:
        raise SourceRefused("config.json has no quantization_config of quant_method eetq")
    weights = StatedWeights(8, NumberType.INT, Granularity.CHANNEL, None, symmetric=True)
    modules = {name: EetqModule(name, shape, weights, reader) for name, shape in linears.items() if f"{name}.weight_scales" in info.tensors}
    return StoredCheckpoint(info, reader, modules, opaque=OPAQUE)
