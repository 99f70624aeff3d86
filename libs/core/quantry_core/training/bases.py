"""Which versions can be trained on, and how: asked at submission, and by the child before it loads anything."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from quantry_core.jobs import FinetuneSpec
from quantry_core.methods import SCHEMES, Activations, Format, Scheme
from quantry_core.servability import schemes_of
from quantry_core.versions import VersionKind

SIXTEEN_BIT_KINDS = frozenset({VersionKind.MASTER, VersionKind.MERGED})
BASE_KINDS = SIXTEEN_BIT_KINDS | {VersionKind.QUANTIZED}
"""What can be fine-tuned at all; an adapter is merged first."""

_WEIGHT_ONLY = frozenset({Scheme.W2A16, Scheme.W3A16, Scheme.W4A16, Scheme.W8A16})
_PACKED = frozenset({Scheme.NF4, Scheme.INT8})
_TRAINED: dict[Format, frozenset[Scheme]] = {
    # Dequantized as they are loaded, into the precision that is computed in.
    Format.COMPRESSED_TENSORS: _WEIGHT_ONLY,
    Format.GPTQ: _WEIGHT_ONLY,
    # Stays packed: QLoRA.
    Format.BITSANDBYTES: _PACKED,
}
_INSTEAD = (
    "train on the 16-bit master, with base_precision nf4 or int8 where memory is short, or on a version of scheme "
    "W4A16 or W8A16 (compressed-tensors or gptq), NF4 or INT8 (bitsandbytes)"
)
_NO_RECIPE: Mapping[str, Any] = MappingProxyType({})


def not_trainable(
    kind: VersionKind, format_: Format, scheme: str | None, spec: FinetuneSpec, recipe: Mapping[str, Any] = _NO_RECIPE
) -> str | None:
    """Returns why a version cannot be trained as a spec says, and what to do instead; None if it can.

    ``recipe`` is the version's: its overrides give modules schemes of their own.
    """
    if kind not in BASE_KINDS:
        return f"it is an {kind} version: merge it first, and train on what that makes"
    if kind in SIXTEEN_BIT_KINDS:
        return None
    if spec.adapter is None:
        return "it is quantized, and only 16-bit weights can all be trained: give an adapter, or train the 16-bit master"
    if spec.base_precision is not None:
        return f"it is quantized already, and base_precision {spec.base_precision} rounds a 16-bit base: leave it out, or take the master"
    for one in sorted(schemes_of(scheme, recipe), key=str):
        reason = _not_trained(format_, one)
        if reason is not None:
            return f"{reason}; {_INSTEAD}"
    return None


def _not_trained(format_: Format, scheme: Scheme | None) -> str | None:
    trained = _TRAINED.get(format_)
    if trained is None:
        return f"no gradient goes through weights in format {format_}"
    if scheme is None or scheme in trained:
        return None
    if scheme is Scheme.KV_FP8:
        return "its KV cache is rounded to fp8 by scales that fit the model as it was before"
    if SCHEMES[scheme].activations is not Activations.SIXTEEN_BIT:
        return f"scheme {scheme} rounds activations, which no gradient goes through"
    return f"scheme {scheme} in format {format_} cannot be dequantized for training"
