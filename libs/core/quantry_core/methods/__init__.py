"""Quantization methods: names, schemes, the table of methods, and what a spec chooses from it."""

from quantry_core.methods.choice import (
    MethodChoice,
    Weights,
    check_patterns,
    choose,
    choose_weights,
    method_info,
)
from quantry_core.methods.names import Backend, CostClass, DeviceKind, Environment, Format, Method, Scheme
from quantry_core.methods.options import OptionInfo, OptionValue
from quantry_core.methods.schemes import CHANNEL, SCHEMES, Activations, Granularity, GroupSize, NumberType, SchemeInfo
from quantry_core.methods.table import METHODS, MethodInfo

__all__ = [
    "CHANNEL",
    "METHODS",
    "SCHEMES",
    "Activations",
    "Backend",
    "CostClass",
    "DeviceKind",
    "Environment",
    "Format",
    "Granularity",
    "GroupSize",
    "Method",
    "MethodChoice",
    "MethodInfo",
    "NumberType",
    "OptionInfo",
    "OptionValue",
    "Scheme",
    "SchemeInfo",
    "Weights",
    "check_patterns",
    "choose",
    "choose_weights",
    "method_info",
]
