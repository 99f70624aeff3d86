"""What a list of datasets may be asked for."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Query

from quantry_core.datasets import DatasetKind, DatasetOrigin
from quantry_store.repositories.datasets import DatasetQuery


async def dataset_query(
    *,
    kind: DatasetKind | None = None,
    origin: DatasetOrigin | None = None,
    text: Annotated[str | None, Query(min_length=1, max_length=200, description="Part of the name.")] = None,
) -> DatasetQuery:
    """Returns what is looked for."""
    return DatasetQuery(kind=kind, origin=origin, text=text)


DatasetParams = Annotated[DatasetQuery, Depends(dataset_query)]
"""The filters of the list of datasets."""
