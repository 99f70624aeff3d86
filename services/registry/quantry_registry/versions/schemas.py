"""What a list of versions may be asked for."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query

from quantry_core.ids import IdPrefix
from quantry_core.jobs import parse_selector
from quantry_core.methods import Format
from quantry_core.names import Name
from quantry_core.versions import VersionKind, VersionState
from quantry_http.moments import Moment
from quantry_store.repositories.version_search import VersionQuery

Bytes = Annotated[int | None, Query(ge=0, le=2**60)]
DatasetId = Annotated[
    str | None, Query(pattern=rf"^{IdPrefix.DATASET}_[0-9a-f]{{32}}$", description="Only versions that were made with this dataset.")
]


async def version_query(
    *,
    model: Annotated[Name | None, Query(description="Only versions of this model.")] = None,
    kind: VersionKind | None = None,
    state: VersionState | None = None,
    scheme: Annotated[str | None, Query(max_length=64, description="W4A16 and the like.")] = None,
    format: Format | None = None,
    license: Annotated[str | None, Query(max_length=128, description="As the model card has it, whatever its case.")] = None,
    tags: Annotated[str | None, Query(max_length=2048, description="A selector: stage=test,owner!=ann,golden,!draft.")] = None,
    text: Annotated[str | None, Query(min_length=1, max_length=200, description="Part of the model's name or of the notes.")] = None,
    created_after: Annotated[Moment | None, Query(description="RFC 3339; then or later.")] = None,
    created_before: Annotated[Moment | None, Query(description="RFC 3339; earlier than that.")] = None,
    min_size_bytes: Bytes = None,
    max_size_bytes: Bytes = None,
    dataset_id: DatasetId = None,
) -> VersionQuery:
    """Returns what is looked for; raises InvalidInput for a selector that cannot be read."""
    return VersionQuery(
        model=model,
        kind=kind,
        state=state,
        scheme=scheme,
        format=format,
        license=license,
        tags=() if tags is None else parse_selector(tags),
        text=text,
        created_after=created_after,
        created_before=created_before,
        min_size_bytes=min_size_bytes,
        max_size_bytes=max_size_bytes,
        dataset_id=dataset_id,
    )


VersionParams = Annotated[VersionQuery, Depends(version_query)]
"""The filters of the list of versions."""
