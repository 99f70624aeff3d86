"""Masters whose files really lie in the vault, and estimates of jobs on them."""

from __future__ import annotations

import json
from hashlib import sha256
from io import BytesIO
from typing import Any

from factories.checkpoints import CONFIG, master_contents, safetensors_bytes, write_checkpoint
from factories.store import quantized_draft
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_blobs.vault import Vault
from quantry_core.gate import required_checks
from quantry_core.jobs import QuantizeSpec, written_out
from quantry_core.keys import Role
from quantry_core.versions import ManifestFile, SealRequest
from quantry_store.transactions import record_seal

from .conftest import Api

HIDDEN, ROWS, VOCABULARY = 128, 256, 512
SHAPES = {
    "model.embed_tokens.weight": (VOCABULARY, HIDDEN),
    "model.layers.0.mlp.up_proj.weight": (ROWS, HIDDEN),
    "model.layers.0.mlp.down_proj.weight": (HIDDEN, ROWS),
    "model.norm.weight": (HIDDEN,),
}


def contents() -> dict[str, bytes]:
    """Returns a master of one layer."""
    config = CONFIG | {"max_position_embeddings": 2048, "hidden_size": HIDDEN, "vocab_size": VOCABULARY, "num_attention_heads": 2}
    weights = safetensors_bytes({name: ("F16", shape) for name, shape in SHAPES.items()})
    return master_contents(config__json=json.dumps(config).encode(), model__safetensors=weights)


async def make_master(api: Api, blobs: BlobSettings | None, model: str = "bard") -> dict[str, Any]:
    """Imports a master whose files really lie in the vault, where there is one; returns the finished job."""
    source = write_checkpoint(api.roots / model, contents())
    await api.submit(type="import", model=model, source=str(source))
    lease = await api.claim()
    assert lease is not None
    files = []
    for path, content in contents().items():
        files.append(ManifestFile(path=path, size_bytes=len(content), sha256=sha256(content).hexdigest()))
        if blobs is not None:
            Vault(MinioStore(blobs), blobs.vault_bucket).put_stream(BytesIO(content))
    request = SealRequest(job_id=lease["job"]["id"], attempt=lease["attempt"], files=files)
    async with api.database.begin() as uow:
        await record_seal(uow, request, dtype="float16")
    version = {
        "model": model,
        "kind": "master",
        "state": "ready",
        "format": "safetensors",
        "dtype": "float16",
        "files": [file.model_dump() for file in files],
    }
    finished = await api.execute(
        lease, "finish", outcome="succeeded", reason="completed", version=version, seconds=60.0, peak_memory_bytes=10**8
    )
    assert finished.status_code == 200, finished.text
    job: dict[str, Any] = finished.json()
    return job


def quantize(base: str = "bard", **changes: Any) -> dict[str, Any]:
    return {"type": "quantize", "base": base, "calibration": {"datasets": ["shakespeare"]}} | changes


async def make_quantized(api: Api, **changes: Any) -> str:
    """Quantizes the master as a worker reports it; returns the version's id."""
    spec = quantize(quality=None, **changes)
    await api.submit(**spec)
    lease = await api.claim()
    assert lease is not None
    recipe = written_out(QuantizeSpec.model_validate(spec)).model_dump(mode="json")
    draft = quantized_draft(recipe=recipe)
    request = SealRequest(job_id=lease["job"]["id"], attempt=lease["attempt"], files=draft.files)
    async with api.database.begin() as uow:
        await record_seal(uow, request, dtype=None)
    evidence = [{"kind": "gate", "name": check, "verdict": "pass"} for check in sorted(required_checks(None))]
    body = {"outcome": "succeeded", "reason": "completed", "version": draft.model_dump(mode="json"), "evidence": evidence}
    finished = await api.execute(lease, "finish", **body)
    assert finished.status_code == 200, finished.text
    return str(finished.json()["result"]["version_id"])


async def estimate(api: Api, spec: dict[str, Any], **options: Any) -> dict[str, Any]:
    response = await api[Role.VIEWER].post("/api/v1/jobs/estimate", json={"spec": spec, **options})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found
