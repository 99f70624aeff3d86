"""What each scheme stores: one literal table.

Granularity is how many weights share one scale: all of a matrix (tensor), those of one output (channel), or a run of
``group_size`` inputs of one output (group). docs/methods.md says when to take which.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.methods.names import Scheme

CHANNEL: Literal["channel"] = "channel"
"""Given as a group size: one scale for each output channel."""

GroupSize = int | Literal["channel"]
"""Weights that share one scale, in elements along the input dimension; or ``channel``."""


class NumberType(StrEnum):
    """What a stored weight is."""

    INT = "int"
    FLOAT = "float"
    NORMAL_FLOAT = "normal-float"
    K_QUANT = "k-quant"


class Granularity(StrEnum):
    TENSOR = "tensor"
    CHANNEL = "channel"
    GROUP = "group"


class Activations(StrEnum):
    """What a matrix product multiplies the weights with."""

    SIXTEEN_BIT = "16-bit"
    INT8_DYNAMIC = "int8, scaled per token at run time"
    FP8_DYNAMIC = "fp8, scaled per token at run time"
    FP8_STATIC = "fp8, one calibrated scale per tensor"
    FP4_LOCAL = "fp4, scaled per group at run time"


class SchemeInfo(BaseModel):
    """One row of the scheme table."""

    model_config = ConfigDict(frozen=True)

    scheme: Scheme
    weight_bits: float = Field(description="Bits of one stored weight, its share of scales not counted. 16: weights stay as they are.")
    number_type: NumberType
    granularity: Granularity | None = Field(description="Fixed by the scheme; None where the group size of a job decides.")
    group_size: int | None = Field(default=None, description="Fixed by the scheme; None where a job decides or there are no groups.")
    activations: Activations = Activations.SIXTEEN_BIT


def _grouped(scheme: Scheme, bits: int, activations: Activations = Activations.SIXTEEN_BIT) -> SchemeInfo:
    return SchemeInfo(scheme=scheme, weight_bits=bits, number_type=NumberType.INT, granularity=None, activations=activations)


def _fp4(scheme: Scheme, group_size: int, activations: Activations) -> SchemeInfo:
    return SchemeInfo(
        scheme=scheme,
        weight_bits=4,
        number_type=NumberType.FLOAT,
        granularity=Granularity.GROUP,
        group_size=group_size,
        activations=activations,
    )


def _fp8(scheme: Scheme, granularity: Granularity, activations: Activations) -> SchemeInfo:
    return SchemeInfo(scheme=scheme, weight_bits=8, number_type=NumberType.FLOAT, granularity=granularity, activations=activations)


def _k_quant(scheme: Scheme, bits: float, group_size: int) -> SchemeInfo:
    return SchemeInfo(scheme=scheme, weight_bits=bits, number_type=NumberType.K_QUANT, granularity=Granularity.GROUP, group_size=group_size)


SCHEMES: dict[Scheme, SchemeInfo] = {
    Scheme.W2A16: _grouped(Scheme.W2A16, 2),
    Scheme.W3A16: _grouped(Scheme.W3A16, 3),
    Scheme.W4A16: _grouped(Scheme.W4A16, 4),
    Scheme.W8A16: _grouped(Scheme.W8A16, 8),
    Scheme.W4A8: _grouped(Scheme.W4A8, 4, Activations.INT8_DYNAMIC),
    Scheme.W8A8: SchemeInfo(
        scheme=Scheme.W8A8,
        weight_bits=8,
        number_type=NumberType.INT,
        granularity=Granularity.CHANNEL,
        activations=Activations.INT8_DYNAMIC,
    ),
    Scheme.FP8: _fp8(Scheme.FP8, Granularity.TENSOR, Activations.FP8_STATIC),
    Scheme.FP8_DYNAMIC: _fp8(Scheme.FP8_DYNAMIC, Granularity.CHANNEL, Activations.FP8_DYNAMIC),
    Scheme.NVFP4: _fp4(Scheme.NVFP4, 16, Activations.FP4_LOCAL),
    Scheme.NVFP4A16: _fp4(Scheme.NVFP4A16, 16, Activations.SIXTEEN_BIT),
    Scheme.MXFP4: _fp4(Scheme.MXFP4, 32, Activations.FP4_LOCAL),
    Scheme.MXFP4A16: _fp4(Scheme.MXFP4A16, 32, Activations.SIXTEEN_BIT),
    Scheme.KV_FP8: SchemeInfo(scheme=Scheme.KV_FP8, weight_bits=16, number_type=NumberType.FLOAT, granularity=Granularity.TENSOR),
    Scheme.NF4: SchemeInfo(
        scheme=Scheme.NF4, weight_bits=4, number_type=NumberType.NORMAL_FLOAT, granularity=Granularity.GROUP, group_size=64
    ),
    Scheme.INT8: SchemeInfo(scheme=Scheme.INT8, weight_bits=8, number_type=NumberType.INT, granularity=Granularity.CHANNEL),
    Scheme.Q8_0: _k_quant(Scheme.Q8_0, 8.5, 32),
    Scheme.Q5_K_M: _k_quant(Scheme.Q5_K_M, 5.5, 32),
    Scheme.Q4_K_M: _k_quant(Scheme.Q4_K_M, 4.5, 32),
}
