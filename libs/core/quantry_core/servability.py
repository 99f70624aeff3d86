"""What loads which checkpoint: format and scheme by engine, its version and device. One literal table.

Rows say what was tried with the versions that are pinned, or what the engine's own code says where the device is not at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quantry_core.methods import DeviceKind, Format, Scheme
from quantry_core.training import AdapterKind


class EngineName(StrEnum):
    VLLM = "vllm"
    TRANSFORMERS = "transformers"
    LLAMA_CPP = "llama.cpp"
    SGLANG = "sglang"
    LMDEPLOY = "lmdeploy"


class EngineSupport(BaseModel):
    """One row: an engine on a device loads these schemes in this format."""

    model_config = ConfigDict(frozen=True)

    engine: EngineName
    version: str = Field(description="The version that the row is about.")
    device: DeviceKind
    format: Format
    schemes: frozenset[Scheme | None] = Field(description="None is 16 bit.")
    note: str = ""


VERSIONS: dict[EngineName, str] = {
    EngineName.VLLM: "0.32",
    EngineName.TRANSFORMERS: "5.17",
    EngineName.LLAMA_CPP: "2026.10",
    EngineName.SGLANG: "0.5",
    EngineName.LMDEPLOY: "0.10",
}
"""Of the engines that the table is about."""

_SIXTEEN_BIT: frozenset[Scheme | None] = frozenset({None})
_COMPRESSED: frozenset[Scheme | None] = frozenset(
    {
        Scheme.W2A16,
        Scheme.W3A16,
        Scheme.W4A16,
        Scheme.W8A16,
        Scheme.W4A8,
        Scheme.W8A8,
        Scheme.FP8,
        Scheme.FP8_DYNAMIC,
        Scheme.NVFP4,
        Scheme.NVFP4A16,
        Scheme.MXFP4,
        Scheme.MXFP4A16,
        Scheme.KV_FP8,
    }
)
_BITSANDBYTES: frozenset[Scheme | None] = frozenset({Scheme.NF4, Scheme.INT8})
_GGUF: frozenset[Scheme | None] = frozenset({Scheme.Q8_0, Scheme.Q5_K_M, Scheme.Q4_K_M})


def _row(engine: EngineName, device: DeviceKind, format_: Format, schemes: frozenset[Scheme | None], note: str = "") -> EngineSupport:
    return EngineSupport(engine=engine, version=VERSIONS[engine], device=device, format=format_, schemes=schemes, note=note)


SUPPORT: tuple[EngineSupport, ...] = (
    _row(EngineName.VLLM, DeviceKind.CPU, Format.SAFETENSORS, _SIXTEEN_BIT),
    _row(
        EngineName.VLLM,
        DeviceKind.CPU,
        Format.COMPRESSED_TENSORS,
        frozenset({Scheme.W4A16, Scheme.W8A8, Scheme.FP8_DYNAMIC}),
        "W4A16 wants sides that are multiples of 32; FP8_DYNAMIC runs without a kernel of its own, and for FP8's calibrated scales "
        "the CPU build lacks the operation (static_scaled_fp8_quant).",
    ),
    _row(EngineName.VLLM, DeviceKind.CPU, Format.GPTQ, frozenset({Scheme.W4A16}), "Sides that are multiples of 32."),
    _row(EngineName.VLLM, DeviceKind.CUDA, Format.SAFETENSORS, _SIXTEEN_BIT),
    _row(
        EngineName.VLLM,
        DeviceKind.CUDA,
        Format.COMPRESSED_TENSORS,
        _COMPRESSED - {Scheme.W4A8},
        "NVFP4 and MXFP4 want Blackwell for 4-bit activations; not run here, told from the engine's code.",
    ),
    _row(EngineName.VLLM, DeviceKind.CUDA, Format.GPTQ, frozenset({Scheme.W4A16, Scheme.W8A16}), "Told from the engine's code."),
    _row(EngineName.TRANSFORMERS, DeviceKind.CPU, Format.SAFETENSORS, _SIXTEEN_BIT),
    _row(EngineName.TRANSFORMERS, DeviceKind.CPU, Format.COMPRESSED_TENSORS, _COMPRESSED),
    _row(EngineName.TRANSFORMERS, DeviceKind.CPU, Format.BITSANDBYTES, _BITSANDBYTES, "A base for QLoRA too."),
    _row(EngineName.TRANSFORMERS, DeviceKind.CUDA, Format.SAFETENSORS, _SIXTEEN_BIT),
    _row(EngineName.TRANSFORMERS, DeviceKind.CUDA, Format.COMPRESSED_TENSORS, _COMPRESSED),
    _row(EngineName.TRANSFORMERS, DeviceKind.CUDA, Format.BITSANDBYTES, _BITSANDBYTES, "A base for QLoRA too."),
    _row(EngineName.TRANSFORMERS, DeviceKind.CUDA, Format.EETQ, frozenset({Scheme.W8A16}), "With the EETQ library."),
    _row(EngineName.LLAMA_CPP, DeviceKind.CPU, Format.GGUF, _GGUF),
    _row(EngineName.LLAMA_CPP, DeviceKind.CUDA, Format.GGUF, _GGUF),
    _row(EngineName.SGLANG, DeviceKind.CUDA, Format.SAFETENSORS, _SIXTEEN_BIT, "Told from its documentation."),
    _row(
        EngineName.SGLANG,
        DeviceKind.CUDA,
        Format.COMPRESSED_TENSORS,
        frozenset({Scheme.W4A16, Scheme.W8A16, Scheme.W8A8, Scheme.FP8, Scheme.FP8_DYNAMIC}),
        "Told from its documentation.",
    ),
    _row(EngineName.SGLANG, DeviceKind.CUDA, Format.GPTQ, frozenset({Scheme.W4A16, Scheme.W8A16}), "Told from its documentation."),
    _row(EngineName.LMDEPLOY, DeviceKind.CUDA, Format.SAFETENSORS, _SIXTEEN_BIT, "Told from its documentation."),
    _row(EngineName.LMDEPLOY, DeviceKind.CUDA, Format.GPTQ, frozenset({Scheme.W4A16}), "Told from its documentation."),
)


def loaders(format_: Format, scheme: Scheme | None) -> list[EngineSupport]:
    """Returns the rows of all that loads such a checkpoint."""
    return [row for row in SUPPORT if row.format is format_ and scheme in row.schemes]


def schemes_of(scheme: str | None, recipe: Mapping[str, Any]) -> set[Scheme | None]:
    """Returns every scheme that a version's modules have: its own, those of its recipe's overrides, and that of its KV cache.

    One that this release does not know is left out: nothing can be told of it.
    """
    overrides = recipe.get("overrides")
    names = [scheme, *(one.get("scheme") for one in overrides if isinstance(one, dict))] if isinstance(overrides, list) else [scheme]
    known: set[Scheme | None] = {Scheme(name) for name in names if name in set(Scheme)}
    if recipe.get("kv_cache") == "fp8":
        known.add(Scheme.KV_FP8)
    return known or {None}


def not_served(format_: Format, schemes: Iterable[Scheme | None], engine: EngineName, device: DeviceKind | None) -> str | None:
    """Returns why an engine cannot load such a checkpoint, with what to take instead; None if it can.

    ``device`` None: it is not known where the engine runs, so what any device loads is let pass.
    """
    here = [row for row in SUPPORT if row.engine is engine and (device is None or row.device is device)]
    for scheme in sorted(schemes, key=str):
        if any(row.format is format_ and scheme in row.schemes for row in here):
            continue
        served = sorted({f"{known} ({row.format})" for row in here for known in row.schemes if known is not None})
        others = sorted({f"{row.engine} on {row.device}" for row in loaders(format_, scheme)})
        where = "" if device is None else f" on {device}"
        elsewhere = f"; {', '.join(others)} can" if others else ""
        advice = f"Quantize the master with a scheme that it serves: {', '.join(served)}" if served else "Take another engine"
        return f"{engine} {VERSIONS[engine]}{where} cannot load {scheme or '16-bit weights'} in format {format_}{elsewhere}. {advice}"
    return None


class StatedAdapter(BaseModel):
    """What the recipe of an adapter version says of it."""

    model_config = ConfigDict(frozen=True)

    kind: AdapterKind
    rank: int


def stated_adapter(recipe: Mapping[str, Any]) -> StatedAdapter | None:
    """Returns the kind and rank of an adapter by its version's recipe; None where that does not tell: the files do."""
    try:
        return StatedAdapter.model_validate(recipe.get("adapter"))
    except ValidationError:
        return None


def adapter_not_served(kind: AdapterKind, rank: int, max_rank: int) -> str | None:
    """Returns why vLLM cannot load an adapter beside its base, with what to do instead; None if it can.

    ``max_rank`` is what the engine was started with.
    """
    if kind is AdapterKind.DORA:
        return f"{EngineName.VLLM} {VERSIONS[EngineName.VLLM]} loads no {kind} adapters; merge it, or train it as lora or rslora"
    if rank > max_rank:
        return f"it is of rank {rank} and the release takes ranks up to {max_rank}; roll out one with a higher max_adapter_rank"
    return None
