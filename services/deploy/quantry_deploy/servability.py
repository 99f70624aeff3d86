"""What an engine can load, asked before one is started: a refusal with a sentence beats a crash loop."""

from __future__ import annotations

from typing import Any

from quantry_core.errors import NotServable
from quantry_core.jobs import EngineConfig
from quantry_core.methods import Format
from quantry_core.versions import Version, VersionKind, VersionState

SERVABLE: dict[Format, frozenset[VersionKind]] = {
    Format.SAFETENSORS: frozenset({VersionKind.MASTER, VersionKind.MERGED}),
    Format.COMPRESSED_TENSORS: frozenset({VersionKind.QUANTIZED}),
}
"""What vLLM loads, by format: 16-bit safetensors as transformers saves them, and compressed-tensors."""

INTEGER_BITS = frozenset({4, 8})
"""Bits per weight of the integer kernels in vLLM; there is none for 2 or 3."""


def check_version(version: Version) -> None:
    """Raises NotServable unless vLLM can load what this version says it is."""
    if version.state is not VersionState.READY:
        raise NotServable(f"{version.ref} is {version.state}; only a ready version is served")
    kinds = SERVABLE.get(version.format)
    if kinds is None or version.kind not in kinds:
        known = "; ".join(f"{format_} ({', '.join(sorted(known_kinds))})" for format_, known_kinds in SERVABLE.items())
        raise NotServable(f"vLLM cannot load {version.ref}, a {version.kind} version in format {version.format}; it serves: {known}")


def check_config(version: Version, config: dict[str, Any], engine: EngineConfig) -> None:
    """Raises NotServable where the checkpoint's config.json and the engine configuration cannot go together."""
    longest = config.get("max_position_embeddings")
    asked = engine.max_model_len_tokens
    if asked is not None and isinstance(longest, int) and asked > longest:
        raise NotServable(f"{version.ref} knows {longest} positions, max_model_len_tokens asks for {asked}")
    quantization = config.get("quantization_config")
    if version.format is Format.SAFETENSORS:
        if quantization is not None:
            raise NotServable(f"{version.ref} is recorded as 16-bit, but its config.json has a quantization_config")
        return
    if not isinstance(quantization, dict) or quantization.get("quant_method") != "compressed-tensors":
        raise NotServable(f"{version.ref} is recorded as compressed-tensors, but its config.json does not say so")
    for weights in _weight_schemes(quantization):
        if weights.get("type") == "int" and weights.get("num_bits") not in INTEGER_BITS:
            raise NotServable(f"{version.ref} has {weights.get('num_bits')}-bit weights; vLLM has integer kernels for 4 and 8 bits")


def _weight_schemes(quantization: dict[str, Any]) -> list[dict[str, Any]]:
    groups = quantization.get("config_groups")
    if not isinstance(groups, dict):
        return []
    schemes = [group.get("weights") for group in groups.values() if isinstance(group, dict)]
    return [scheme for scheme in schemes if isinstance(scheme, dict)]
