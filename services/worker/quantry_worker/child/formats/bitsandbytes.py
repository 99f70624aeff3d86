"""bitsandbytes: NF4 (Dettmers et al. 2023, arXiv:2305.14314) and LLM.int8 (Dettmers et al. 2022, arXiv:2208.07339).

NF4: ``weight``, uint8 [out * in / 2, 1]: the weight's elements in row-major order, two a byte, the first in the high half,
each an index into the 16 quantiles of ``weight.quant_map``; ``weight.absmax`` has one scale for each ``blocksize`` elements.
With double quantization a scale is nested_quant_map[absmax] * nested_absmax[block of scales] + nested_offset. Sizes and the
offset lie as JSON in ``weight.quant_state.bitsandbytes__nf4``. INT8: ``weight``, int8 [out, in], times ``SCB`` [out] / 127.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from quantry_core.checkpoints import CheckpointInfo
from quantry_core.errors import SourceRefused
from quantry_core.layouts import NF4_BLOCK, NF4_SUPER_BLOCK
from quantry_core.linears import Shape
from quantry_core.methods import Format, Granularity, NumberType
from quantry_worker.child.formats.stored import Float32, Levels, Part, StatedWeights, StoredCheckpoint, row_spans
from quantry_worker.child.numerics.tensors import TensorReader

INT8_LEVELS = 127
QUANTILE_TOLERANCE = 1e-6
NF4: Float32 = np.array(
    [
        *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334),
        *(-0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
        *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
    ],
    dtype=np.float32,
)
"""Quantiles of the normal distribution, scaled to [-1, 1]: appendix E of the paper."""
STATE_SUFFIX = "weight.quant_state.bitsandbytes__nf4"


@dataclass(frozen=True)
class Nf4Module:
    """A module of 4-bit normal floats."""

    name: str
    shape: Shape
    stated: StatedWeights
    is_nested: bool
    tensors: TensorReader

    def parts(self) -> Mapping[str, Part]:
        num_weights = self.shape[0] * self.shape[1]
        num_blocks = -(-num_weights // NF4_BLOCK)
        byte, float32 = frozenset({"U8"}), frozenset({"F32"})
        parts = {
            "weight": Part(byte, ((-(-num_weights // 2), 1),)),
            "weight.absmax": Part(byte if self.is_nested else float32, ((num_blocks,),)),
            "weight.quant_map": Part(float32, ((len(NF4),),)),
            "weight.quant_state.bitsandbytes__nf4": Part(byte, (self.tensors.shape(f"{self.name}.{STATE_SUFFIX}"),)),
        }
        if self.is_nested:
            parts["weight.nested_absmax"] = Part(float32, ((-(-num_blocks // NF4_SUPER_BLOCK),),))
            parts["weight.nested_quant_map"] = Part(float32, ((256,),))
        return {f"{self.name}.{part}": expected for part, expected in parts.items()}

    def levels(self) -> Levels:
        problems = []
        if np.abs(self.tensors.floats(f"{self.name}.weight.quant_map") - NF4).max() > QUANTILE_TOLERANCE:
            problems.append(f"{self.name}.weight.quant_map does not hold the quantiles of NF4")
        state = self._state()
        if tuple(state.get("shape") or ()) != self.shape or state.get("blocksize") != NF4_BLOCK:
            problems.append(
                f"{self.name}: its quant_state says shape {state.get('shape')} in blocks of {state.get('blocksize')}, "
                f"expected is {list(self.shape)} in blocks of {NF4_BLOCK}"
            )
        scales = {f"{self.name}.weight.absmax": self._scales()}
        if self.is_nested:
            scales[f"{self.name}.weight.nested_absmax"] = self.tensors.floats(f"{self.name}.weight.nested_absmax")
        return Levels(scales, problems=problems)

    def blocks(self, block_weights: int) -> Iterator[Float32]:
        scales = self._scales()
        in_features = self.shape[1]
        for start, count in row_spans(self.shape, max(block_weights, 2 * in_features)):
            first, last = start * in_features, (start + count) * in_features
            packed = self.tensors.integer_rows(f"{self.name}.weight", first // 2, -(-last // 2) - first // 2)[:, 0]
            numbers = NF4[np.stack([packed >> 4, packed & 0xF], axis=-1)].reshape(-1)[first % 2 :][: last - first]
            numbers *= scales[np.arange(first, last) // NF4_BLOCK]
            yield numbers.reshape(count, in_features)

    def _scales(self) -> Float32:
        if not self.is_nested:
            return self.tensors.floats(f"{self.name}.weight.absmax")
        codes = self.tensors.integers(f"{self.name}.weight.absmax")
        nested = self.tensors.floats(f"{self.name}.weight.nested_absmax")[np.arange(len(codes)) // NF4_SUPER_BLOCK]
        scales: Float32 = self.tensors.floats(f"{self.name}.weight.nested_quant_map")[codes] * nested
        return scales + np.float32(self._state().get("nested_offset", np.nan))

    def _state(self) -> dict[str, Any]:
        raw = bytes(self.tensors.integers(f"{self.name}.{STATE_SUFFIX}").astype(np.uint8))
        try:
            state = json.loads(raw)
        except ValueError as error:
            raise SourceRefused(f"{self.name}: its quant_state is not JSON ({error})") from error
        return state if isinstance(state, dict) else {}


@dataclass(frozen=True)
class Int8Module:
    """A module of LLM.int8: one scale a row."""

    name: str
    shape: Shape
    stated: StatedWeights
    tensors: TensorReader

    def parts(self) -> Mapping[str, Part]:
        return {
            f"{self.name}.weight": Part(frozenset({"I8"}), (self.shape,)),
            f"{self.name}.SCB": Part(frozenset({"F32"}), ((self.shape[0],),)),
            f"{self.name}.weight_format": Part(frozenset({"U8"}), ((),), is_optional=True),
        }

    def levels(self) -> Levels:
        name = f"{self.name}.weight_format"
        is_row_major = not self.tensors.has(name) or int(self.tensors.integers(name)) == 0
        problems = [] if is_row_major else [f"{name} says that the weight is stored in the order of one GPU generation"]
        return Levels({f"{self.name}.SCB": self.tensors.floats(f"{self.name}.SCB")}, problems=problems)

    def blocks(self, block_weights: int) -> Iterator[Float32]:
        for start, count in row_spans(self.shape, block_weights):
            scales = self.tensors.float_rows(f"{self.name}.SCB", start, count) / np.float32(INT8_LEVELS)
            yield self.tensors.integer_rows(f"{self.name}.weight", start, count).astype(np.float32) * scales[:, None]


def open_bitsandbytes(info: CheckpointInfo, reader: TensorReader, linears: Mapping[str, Shape]) -> StoredCheckpoint:
    """Returns the checkpoint; raises SourceRefused if quantization_config is neither NF4 nor INT8 of bitsandbytes.

    Modules are quantized that have the parts of one; a module that should have been and has none stays at 16 bit.
    """
    stated = info.config.get("quantization_config")
    if not isinstance(stated, dict) or stated.get("quant_method") != Format.BITSANDBYTES:
        raise SourceRefused("config.json has no quantization_config of quant_method bitsandbytes")
    if stated.get("load_in_8bit"):
        int8 = StatedWeights(8, NumberType.INT, Granularity.CHANNEL, None, symmetric=True)
        return StoredCheckpoint(
            info,
            reader,
            {name: Int8Module(name, shape, int8, reader) for name, shape in linears.items() if f"{name}.SCB" in info.tensors},
        )
    if not stated.get("load_in_4bit") or stated.get("bnb_4bit_quant_type") != "nf4":
        raise SourceRefused(f"quantization_config: 4-bit type {stated.get('bnb_4bit_quant_type')} is not nf4, and it is not int8 either")
    nf4 = StatedWeights(4, NumberType.NORMAL_FLOAT, Granularity.GROUP, NF4_BLOCK, symmetric=True)
    is_nested = stated.get("bnb_4bit_use_double_quant") is True
    return StoredCheckpoint(
        info,
        reader,
        {
            name: Nf4Module(name, shape, nf4, is_nested, reader)
            for name, shape in linears.items()
            if f"{name}.{STATE_SUFFIX}" in info.tensors
        },
    )
