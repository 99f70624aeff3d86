"""The beginning of a dataset, small enough to look at."""

from __future__ import annotations

import json
from typing import Any

from quantry_core.datasets import Dataset, DatasetKind, DatasetPreview
from quantry_core.rows import MAX_ROW_BYTES

PREVIEW_BYTES = MAX_ROW_BYTES + 1
"""What is read: the longest row is whole in it."""

MAX_STRING_CHARACTERS = 2000
ELLIPSIS = "…"


def preview_of(dataset: Dataset, beginning: bytes, limit: int) -> DatasetPreview:
    """Returns the first ``limit`` lines or rows that ``beginning``, the first PREVIEW_BYTES of a dataset, holds."""
    is_all = len(beginning) == dataset.size_bytes
    # A character may be cut at the end.
    lines = beginning.decode(errors="ignore").split("\n")
    cut = lines.pop()
    if is_all or (dataset.kind is DatasetKind.TEXT and not lines):
        lines.append(cut)
    if dataset.kind is DatasetKind.TEXT:
        while lines and is_all and not lines[-1]:
            lines.pop()
        items: list[dict[str, Any] | str] = [_shortened(line.removesuffix("\r")) for line in lines]
    else:
        items = [_shortened(json.loads(line)) for line in lines if line.strip()]
    return DatasetPreview(
        dataset_id=dataset.id, ref=dataset.ref, kind=dataset.kind, items=items[:limit], has_more=len(items) > limit or not is_all
    )


def _shortened(value: Any) -> Any:
    match value:
        case str():
            return value if len(value) <= MAX_STRING_CHARACTERS else value[:MAX_STRING_CHARACTERS] + ELLIPSIS
        case list():
            return [_shortened(one) for one in value]
        case dict():
            return {name: _shortened(one) for name, one in value.items()}
        case _:
            return value
