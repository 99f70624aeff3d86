"""The gptq layout (AutoGPTQ, GPTQModel), version 1: integers packed along the inputs, transposed.

``qweight``, int32 [in * bits / 32, out]: input i of a column lies at bits i * bits and up of its little-endian stream of
words. ``scales`` [G, out]; ``qzeros``, int32 [G, out * bits / 32], packed along the outputs, each one less than the zero point
(version 2 stores the zero point itself); ``g_idx``, int32 [in]: which group an input belongs to. A weight is
(integer - zero point) * scale. The packing is that of Frantar et al. 2022 (arXiv:2210.17323), github.com/IST-DASLab/gptq.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from quantry_core.checkpoints import CheckpointInfo
from quantry_core.errors import SourceRefused
from quantry_core.layouts import WORD_BITS, num_groups
from quantry_core.linears import Shape
from quantry_core.methods import Format, Granularity, NumberType
from quantry_worker.child.formats.integers import SCALE_DTYPES, unpack_rows
from quantry_worker.child.formats.stored import Float32, Levels, Part, StatedWeights, StoredCheckpoint, row_spans
from quantry_worker.child.numerics.tensors import TensorReader

ZERO_OFFSETS = {"gptq": 1, "gptq_v2": 0}
"""By checkpoint_format: what is added to a stored zero point."""
BITS = (2, 3, 4, 8)


@dataclass(frozen=True)
class GptqModule:
    """One module: qweight, qzeros, scales and g_idx."""

    name: str
    shape: Shape
    stated: StatedWeights
    zero_offset: int
    tensors: TensorReader

    def parts(self) -> Mapping[str, Part]:
        out_features, in_features = self.shape
        groups, bits = num_groups(in_features, self.stated.group_size), int(self.stated.bits)
        return {
            f"{self.name}.qweight": Part(frozenset({"I32"}), ((in_features * bits // WORD_BITS, out_features),)),
            f"{self.name}.qzeros": Part(frozenset({"I32"}), ((groups, out_features * bits // WORD_BITS),)),
            f"{self.name}.scales": Part(SCALE_DTYPES, ((groups, out_features),)),
            f"{self.name}.g_idx": Part(frozenset({"I32"}), ((in_features,),), is_optional=True),
        }

    def levels(self) -> Levels:
        group_of_input = self._group_of_input()
        groups = num_groups(self.shape[1], self.stated.group_size)
        problems = []
        if group_of_input.min() < 0 or group_of_input.max() >= groups:
            problems.append(f"{self.name}.g_idx names group {int(group_of_input.max())}, there are {groups}")
        zero_points, num_levels = self._zero_points().T, 1 << int(self.stated.bits)
        if self.stated.symmetric and (zero_points != num_levels // 2).any():
            problems.append(
                f"{self.name}: the scheme is symmetric, so every zero point is {num_levels // 2}; "
                f"{int((zero_points != num_levels // 2).sum())} are not (the first is {int(zero_points.flat[0])})"
            )
        return Levels(
            {f"{self.name}.scales": self.tensors.floats(f"{self.name}.scales")},
            zero_points=zero_points,
            num_levels=num_levels,
            problems=problems,
        )

    def blocks(self, block_weights: int) -> Iterator[Float32]:
        # A row of the weight is a column here: the packed tensor is read once, whole.
        bits, in_features = int(self.stated.bits), self.shape[1]
        packed = self.tensors.integers(f"{self.name}.qweight").astype(np.int32)
        groups = self._group_of_input()
        scales, zero_points = self.tensors.floats(f"{self.name}.scales"), self._zero_points()
        for start, count in row_spans(self.shape, block_weights):
            columns = slice(start, start + count)
            values = _unsigned(packed[:, columns].T, bits, in_features)
            values -= zero_points.T[columns][:, groups].astype(np.float32)
            yield values * scales.T[columns][:, groups]

    def _zero_points(self) -> NDArray[np.int64]:
        """Unsigned levels, shape [G, out]."""
        packed = self.tensors.integers(f"{self.name}.qzeros")
        return _unsigned(packed, int(self.stated.bits), self.shape[0]).astype(np.int64) + self.zero_offset

    def _group_of_input(self) -> NDArray[np.int64]:
        name = f"{self.name}.g_idx"
        if self.tensors.has(name):
            return self.tensors.integers(name)
        size = self.stated.group_size or self.shape[1]
        return np.arange(self.shape[1]) // size


def open_gptq(info: CheckpointInfo, reader: TensorReader, linears: Mapping[str, Shape]) -> StoredCheckpoint:
    """Returns the checkpoint; raises SourceRefused if quantization_config does not describe a gptq layout.

    It names no modules: those are quantized that have a qweight.
    """
    stated = info.config.get("quantization_config")
    if not isinstance(stated, dict) or stated.get("quant_method") != Format.GPTQ:
        raise SourceRefused("config.json has no quantization_config of quant_method gptq")
    bits, size, layout = stated.get("bits"), stated.get("group_size"), stated.get("checkpoint_format", "gptq")
    if bits not in BITS or not isinstance(size, int) or layout not in ZERO_OFFSETS:
        raise SourceRefused(f"quantization_config: bits {bits}, group_size {size} and checkpoint_format {layout} are no gptq layout")
    problems = ["quantization_config: desc_act is set, which engines without dynamic act-order refuse"] if stated.get("desc_act") else []
    is_channel = size < 1
    weights = StatedWeights(
        bits,
        NumberType.INT,
        Granularity.CHANNEL if is_channel else Granularity.GROUP,
        None if is_channel else size,
        symmetric=stated.get("sym") is True,
    )
    modules = {
        name: GptqModule(name, shape, weights, ZERO_OFFSETS[layout], reader)
        for name, shape in linears.items()
        if f"{name}.qweight" in info.tensors
    }
    return StoredCheckpoint(info, reader, modules, problems)


def _unsigned(packed: NDArray[np.integer], bits: int, num_elements: int) -> Float32:
    """Returns the unsigned integers [rows, num_elements] of packed rows as float32."""
    signed = unpack_rows(packed.astype(np.int64), bits, num_elements)
    return signed.astype(np.float32) + np.float32(1 << (bits - 1))
