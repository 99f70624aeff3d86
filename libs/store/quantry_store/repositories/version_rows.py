"""A row of the versions table as the version it is."""

from __future__ import annotations

from quantry_core.versions import Version, VersionCard
from quantry_store.tables import VersionRow


def to_version(row: VersionRow, model_name: str) -> Version:
    """Returns a row as the version it is."""
    return Version(
        id=row.id,
        project_id=row.project_id,
        model_id=row.model_id,
        model_name=model_name,
        number=row.number,
        kind=row.kind,
        state=row.state,
        format=row.format,
        scheme=row.scheme,
        dtype=row.dtype,
        manifest_digest=row.manifest_digest,
        size_bytes=row.size_bytes,
        weights_bytes=row.weights_bytes,
        job_id=row.job_id,
        attempt=row.attempt,
        recipe=row.recipe,
        toolchain=row.toolchain,
        card=VersionCard.model_validate(row.card),
        created_at=row.created_at,
        deleted_at=row.deleted_at,
        bytes_released_at=row.bytes_released_at,
    )
