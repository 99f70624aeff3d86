"""The quantization methods Quantry knows: one literal table, shared by the API (to refuse early) and the worker (to run)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.errors import InvalidInput, UnknownMethod, UnknownScheme

EXPRESSION_PREFIX = "re:"
"""Begins an entry of a quantize job's ``ignore`` that is a regular expression instead of a module's name."""


class Method(StrEnum):
    """Names as in the papers."""

    GPTQ = "gptq"


class Scheme(StrEnum):
    """Bits of weights and activations: W4A16 is 4-bit weights with 16-bit activations."""

    W4A16 = "W4A16"


class Backend(StrEnum):
    """The library that runs a method. Each names the Python environment its child process needs."""

    LLM_COMPRESSOR = "llm-compressor"


class Environment(StrEnum):
    """Python environments of child processes."""

    ML = "ml"


class Format(StrEnum):
    """How a checkpoint's weights are stored on disk."""

    SAFETENSORS = "safetensors"
    COMPRESSED_TENSORS = "compressed-tensors"


class MethodInfo(BaseModel):
    """One row of the method table."""

    model_config = ConfigDict(frozen=True)

    method: Method
    title: str
    paper: str = Field(description="Where the method was published.")
    backend: Backend
    environment: Environment
    schemes: dict[Scheme, int] = Field(description="Each scheme and its bits per weight.")
    group_sizes: tuple[int, ...] = Field(description="Weights that share one scale, in elements along the input dimension.")
    default_group_size: int
    needs_calibration: bool
    format: Format


METHODS: dict[Method, MethodInfo] = {
    Method.GPTQ: MethodInfo(
        method=Method.GPTQ,
        title="GPTQ, error-compensated rounding, one layer at a time",
        paper="Frantar et al. 2022, arXiv:2210.17323",
        backend=Backend.LLM_COMPRESSOR,
        environment=Environment.ML,
        schemes={Scheme.W4A16: 4},
        group_sizes=(32, 64, 128),
        default_group_size=128,
        needs_calibration=True,
        format=Format.COMPRESSED_TENSORS,
    ),
}


def method_info(method: str) -> MethodInfo:
    """Returns the table row of a method; raises UnknownMethod naming the ones there are."""
    try:
        return METHODS[Method(method)]
    except ValueError:
        raise UnknownMethod(f"there is no method {method!r}; known: {', '.join(METHODS)}") from None


def check_method(method: str, scheme: str, group_size: int | None) -> tuple[MethodInfo, Scheme, int]:
    """Returns the row, the scheme and the group size (the default where None); raises with the known ones named."""
    info = method_info(method)
    if scheme not in set(info.schemes):
        raise UnknownScheme(f"method {method} has no scheme {scheme!r}; known: {', '.join(info.schemes)}")
    size = info.default_group_size if group_size is None else group_size
    if size not in info.group_sizes:
        raise InvalidInput(f"method {method} takes group sizes {', '.join(map(str, info.group_sizes))}, not {size}")
    return info, Scheme(scheme), size


def check_ignore(entries: Iterable[str]) -> None:
    """Raises InvalidInput for an entry of ``ignore`` that begins with ``re:`` and goes on with no regular expression."""
    for entry in entries:
        if not entry.startswith(EXPRESSION_PREFIX):
            continue
        try:
            re.compile(entry.removeprefix(EXPRESSION_PREFIX))
        except (re.error, OverflowError, RecursionError) as error:
            raise InvalidInput(f"ignore: {entry!r} is not a regular expression: {error}") from error
