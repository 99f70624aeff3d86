"""The bytes of a version whose time in quarantine is over leave the vault; what is told of it, and what others have, stays."""

from __future__ import annotations

from pathlib import Path

import psycopg

from factories.registry import Registry
from factories.retention import removed
from quantry_core.keys import Role
from quantry_core.retention import RetentionKind, RetentionPart
from quantry_core.vault import VerifyReport, VerifyRequest
from quantry_core.versions import VersionDetail
from quantry_registry.sweeps import sweep_all, sweep_released
from quantry_registry.vault.service import ask_verify, play_next

from .test_checkpoints import age_blobs, url_of
from .test_versions_told import quantize


async def test_released_bytes_leave_and_their_evidence_is_read_on(registry: Registry, tmp_path: Path) -> None:
    master = await registry.import_master(tmp_path)
    quantized = await quantize(registry, tmp_path)
    async with registry.database.begin() as uow:
        await uow.versions.quarantine(quantized.id)
        of_master, files = await uow.versions.files(master.id), await uow.versions.files(quantized.id)
    with psycopg.connect(url_of(registry), autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        connection.execute("update versions set quarantined_at = now() - interval '91 days' where quarantined_at is not null")
    assert await removed(registry.database, RetentionKind.QUARANTINED_BYTES, 90) == 1

    vault, own = registry.parts.vault, {file.sha256 for file in files} - {file.sha256 for file in of_master}
    assert own
    assert len(own) < len(files), "it shares files with the master"
    assert await sweep_released(registry.database, vault, 900.0) == 0, "what was just sealed may be wanted by a job that ends"
    age_blobs(registry)
    await sweep_all(registry.database, registry.parts)
    assert {file.sha256 for file in files if not vault.contains(file.sha256, file.size_bytes)} == own
    assert all(vault.contains(file.sha256, file.size_bytes) for file in of_master)
    async with registry.database.begin() as uow:
        (run,) = (await uow.retention.runs.list()).data
    counts = {count.kind: count for count in run.counts}
    assert (run.part, counts[RetentionKind.RELEASED_BLOBS].num_removed) == (RetentionPart.REGISTRY, len(own))
    assert counts[RetentionKind.RELEASED_BLOBS].size_bytes == sum(
        {file.sha256: file.size_bytes for file in files if file.sha256 in own}.values()
    )

    url = f"/api/v1/versions/{quantized.id}"
    async with registry.client(Role.VIEWER) as client:
        detail = VersionDetail.model_validate((await client.get(url)).json())
        assert (detail.files, detail.bytes_released_at is not None, bool(detail.evidence)) == (files, True, True)
        assert (await client.get(f"{url}/card")).status_code == 200
        assert "given up" in (await client.get(f"{url}/modules")).json()["note"]
        refused = await client.get(f"{url}/files/{files[0].path}")
        assert (refused.status_code, refused.json()["type"]) == (409, "urn:quantry:problem:bytes-released")
        assert (await client.get(f"/api/v1/versions/{master.id}/files/{of_master[0].path}")).status_code == 200
    # A verification of it finds no damage: there is nothing of it to be damaged.
    await ask_verify(registry.database, registry.identities[Role.ADMIN], VerifyRequest(version=quantized.id))
    played = await play_next(registry.database, registry.parts)
    assert played is not None
    async with registry.database.begin() as uow:
        report = VerifyReport.model_validate((await uow.vault_runs.get(played.project_id, played.id)).report)
    assert (report.num_blobs, report.num_damaged) == (0, 0)
