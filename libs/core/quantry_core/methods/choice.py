"""What a spec chose from the method table, with every default filled in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from quantry_core.errors import InvalidInput, UnknownMethod, UnknownScheme
from quantry_core.methods.names import CostClass, DeviceKind, Method, Scheme
from quantry_core.methods.options import OptionValue, check_options
from quantry_core.methods.schemes import CHANNEL, SCHEMES, Granularity, GroupSize, NumberType
from quantry_core.methods.table import METHODS, MethodInfo

EXPRESSION_PREFIX = "re:"
"""Begins regular expressions in the recipes of other tools; patterns here are names and globs."""


@dataclass(frozen=True)
class Weights:
    """How the weights of one module are stored."""

    scheme: Scheme
    bits: float
    number_type: NumberType
    granularity: Granularity
    group_size: int | None
    """Elements that share a scale where the granularity is a group; None otherwise."""
    symmetric: bool
    """False where each scale has a zero point with it."""


@dataclass(frozen=True)
class MethodChoice:
    """A row of the table with what was chosen of it."""

    info: MethodInfo
    weights: Weights
    options: Mapping[str, OptionValue]

    @property
    def scheme(self) -> Scheme:
        return self.weights.scheme

    @property
    def needs_calibration(self) -> bool:
        return self.info.needs_calibration(self.scheme)

    @property
    def cost(self) -> CostClass:
        return self.info.cost(self.scheme)

    @property
    def devices(self) -> tuple[DeviceKind, ...]:
        return self.info.devices(self.scheme)


def method_info(method: str) -> MethodInfo:
    """Returns the table row of a method; raises UnknownMethod naming the ones there are."""
    try:
        return METHODS[Method(method)]
    except ValueError:
        raise UnknownMethod(f"there is no method {method!r}; known: {', '.join(METHODS)}") from None


def choose(method: str, scheme: str | None, group_size: GroupSize | None, options: Mapping[str, OptionValue]) -> MethodChoice:
    """Returns what a spec chose, defaults where it says nothing.

    Raises UnknownMethod, UnknownScheme or InvalidInput naming what there is.
    """
    info = method_info(method)
    checked = check_options(method, info.options, options)
    return MethodChoice(info, choose_weights(info, scheme, group_size, symmetric=_is_symmetric(info, checked)), checked)


def choose_weights(info: MethodInfo, scheme: str | None, group_size: GroupSize | None, *, symmetric: bool) -> Weights:
    """Returns how a method stores a module's weights with this scheme and group size; raises UnknownScheme or InvalidInput."""
    known = info.schemes[0] if scheme is None else _scheme(info, scheme)
    row = SCHEMES[known]
    if row.granularity is not None:
        if group_size is not None and group_size != (row.group_size or row.granularity):
            raise InvalidInput(f"scheme {known} of method {info.method} has no choice of group size; leave it out")
        is_integer = row.number_type is NumberType.INT
        return Weights(known, row.weight_bits, row.number_type, row.granularity, row.group_size, symmetric or not is_integer)
    size = info.default_group_size if group_size is None else group_size
    if size not in info.group_sizes or size is None:
        raise InvalidInput(f"method {info.method} takes group sizes {', '.join(map(str, info.group_sizes))}, not {size}")
    if size == CHANNEL:
        return Weights(known, row.weight_bits, row.number_type, Granularity.CHANNEL, None, symmetric)
    return Weights(known, row.weight_bits, row.number_type, Granularity.GROUP, size, symmetric)


def check_patterns(field: str, patterns: Iterable[str]) -> None:
    """Raises InvalidInput for a regular expression: one that anybody may send could keep the api busy for hours."""
    for pattern in patterns:
        if pattern.startswith(EXPRESSION_PREFIX):
            raise InvalidInput(f"{field}: {pattern!r} is a regular expression; write a glob instead, such as '*.down_proj'")


def _scheme(info: MethodInfo, scheme: str) -> Scheme:
    if scheme not in set(info.schemes):
        raise UnknownScheme(f"method {info.method} has no scheme {scheme!r}; known: {', '.join(info.schemes)}")
    return Scheme(scheme)


def _is_symmetric(info: MethodInfo, options: Mapping[str, OptionValue]) -> bool:
    # HQQ is the search for a zero point: it has no symmetric form.
    return info.method is not Method.HQQ and options.get("symmetric", True) is True
