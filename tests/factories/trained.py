"""Adapters that fine-tune jobs made, without any training."""

from __future__ import annotations

from typing import Any

from factories.store import Platform, manifest
from quantry_core.datasets import Dataset
from quantry_core.jobs import AdapterSpec, FinetuneSpec
from quantry_core.methods import Format
from quantry_core.versions import ManifestFile, Version, VersionDraft, VersionKind, VersionState


def adapter_draft(spec: FinetuneSpec, model: str, files: list[ManifestFile] | None = None, *, content: str = "adapter") -> VersionDraft:
    """Returns what the attempt of a fine-tune job says it made."""
    return VersionDraft(
        model=model,
        kind=VersionKind.ADAPTER,
        state=VersionState.READY,
        format=Format.PEFT,
        dtype=None,
        files=files or manifest(content),
        recipe=spec.model_dump(mode="json"),
    )


async def trained(
    platform: Platform, base: Version, dataset: Dataset, *, seed: int = 0, files: list[ManifestFile] | None = None, **adapter: Any
) -> Version:
    """Returns a new adapter version of a base; another seed makes another one."""
    spec = FinetuneSpec(model=base.id, training_file=dataset.id, seed=seed, adapter=AdapterSpec(**adapter))
    job = await platform.running(spec)
    return await platform.made(job, adapter_draft(spec, base.model_name, files, content=f"adapter {seed}"))
