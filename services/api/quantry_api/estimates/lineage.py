"""What versions were made from, as far as an estimate needs it: an adapter's base, a quantized version's master."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import ValidationError

from quantry_core.jobs import AS_BASE, OUTPUT_PREFIX, MergeSpec, QuantizeSpec
from quantry_core.versions import Version, VersionKind
from quantry_store.unit_of_work import UnitOfWork

MAX_DEPTH = 8
"""Of bases of bases: an adapter of a quantized version of a merged one is three."""


class MadeFrom(NamedTuple):
    """A quantized version's master, and how it was quantized."""

    master: Version
    recipe: QuantizeSpec


async def runnable(uow: UnitOfWork, version: Version) -> Version:
    """Returns the version whose weights are loaded: an adapter's base, else the version itself."""
    base = await uow.versions.base_of(version) if version.kind is VersionKind.ADAPTER else None
    return base or version


async def sixteen_bit(uow: UnitOfWork, version: Version) -> Version | None:
    """Returns the 16-bit version that lies under adapters and rounding; None where the lineage ends before it."""
    found: Version | None = version
    for _ in range(MAX_DEPTH):
        if found is None or found.kind in {VersionKind.MASTER, VersionKind.MERGED}:
            return found
        found = await uow.versions.base_of(found)
    return None


async def made_from(uow: UnitOfWork, version: Version) -> MadeFrom | None:
    """Returns what a quantized version was made from; None for another kind, and for a recipe that this release does not know."""
    master = await uow.versions.base_of(version) if version.kind is VersionKind.QUANTIZED else None
    if master is None:
        return None
    known = {name: value for name, value in version.recipe.items() if name in QuantizeSpec.model_fields}
    try:
        return MadeFrom(master, QuantizeSpec.model_validate(known | {"base": master.id}))
    except ValidationError:
        return None


async def repeated(uow: UnitOfWork, project_id: str, spec: MergeSpec) -> MergeSpec:
    """Returns a merge job with the recipe that as-base means; as it is where that cannot be told, as of an adapter not made yet."""
    if spec.quantize != AS_BASE or spec.adapters[0].adapter.startswith(OUTPUT_PREFIX):
        return spec
    adapter = await uow.versions.resolve(project_id, spec.adapters[0].adapter, kinds=frozenset({VersionKind.ADAPTER}))
    base = await uow.versions.base_of(adapter)
    made = None if base is None else await made_from(uow, base)
    return spec if made is None else spec.model_copy(update={"quantize": made.recipe})
