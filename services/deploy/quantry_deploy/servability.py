"""What an engine can load, asked before one is started: a refusal with a sentence beats a crash loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.adapters import inspect_adapter
from quantry_core.engines import config_refused, engine_of
from quantry_core.errors import NotServable
from quantry_core.jobs import EngineConfig, EngineKind
from quantry_core.methods import DeviceKind, Format
from quantry_core.rollouts import Release
from quantry_core.servability import adapter_not_served, not_served, schemes_of
from quantry_core.versions import Version, VersionKind, VersionState

SERVABLE_KINDS = frozenset({VersionKind.MASTER, VersionKind.MERGED, VersionKind.QUANTIZED})


def check_version(version: Version, device: DeviceKind | None = None, kind: EngineKind = EngineKind.VLLM) -> None:
    """Raises NotServable unless an engine can load what this version says it is; ``device`` None: wherever it runs."""
    if version.state is not VersionState.READY:
        raise NotServable(f"{version.ref} is {version.state}; only a ready version is served")
    if version.kind not in SERVABLE_KINDS:
        raise NotServable(f"{engine_of(kind)} cannot load {version.ref}: an {version.kind} version is no whole model")
    sentence = not_served(version.format, schemes_of(version.scheme, version.recipe), engine_of(kind), device)
    if sentence is not None:
        raise NotServable(f"{version.ref}: {sentence}")


def check_release(version: Version, release: Release, device: DeviceKind | None = None) -> None:
    """Raises NotServable unless the engines of a release can be started as it says and load its version."""
    sentence = config_refused(release.engine, has_servers=bool(release.servers))
    if sentence is not None:
        raise NotServable(f"{version.ref}: {sentence}")
    check_version(version, device, release.engine.engine)


def check_adapter(version: Version, folder: Path, engine: EngineConfig) -> None:
    """Raises NotServable where an adapter's files are not what an engine of this configuration loads, SourceRefused where they are
    no adapter."""
    info = inspect_adapter(DirectoryCheckpoint(folder))
    sentence = adapter_not_served(info.kind, info.rank, engine.max_adapter_rank)
    if sentence is not None:
        raise NotServable(f"{version.ref}: {sentence}")


def check_config(version: Version, config: dict[str, Any], engine: EngineConfig) -> None:
    """Raises NotServable where the checkpoint's config.json and the engine configuration cannot go together."""
    longest = config.get("max_position_embeddings")
    asked = engine.max_model_len_tokens
    if asked is not None and isinstance(longest, int) and asked > longest:
        raise NotServable(f"{version.ref} knows {longest} positions, max_model_len_tokens asks for {asked}")
    quantization = config.get("quantization_config")
    if version.format is Format.GGUF:
        # The file itself says how it is quantized; the config.json beside it is the master's.
        return
    if version.format is Format.SAFETENSORS:
        if quantization is not None:
            raise NotServable(f"{version.ref} is recorded as 16-bit, but its config.json has a quantization_config")
        return
    stated = quantization.get("quant_method") if isinstance(quantization, dict) else None
    if stated != version.format:
        raise NotServable(f"{version.ref} is recorded as {version.format}, but its config.json says {stated or 'nothing of it'}")
