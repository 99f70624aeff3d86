"""The command by which a container's health is looked at, run for real against a service of the stack."""

from __future__ import annotations

import asyncio
import subprocess
import sys

from factories.compose import ROOT, compose
from factories.registry import Registry


async def look(url: str) -> subprocess.CompletedProcess[str]:
    """Runs what the registry's container runs, with another port."""
    check = compose().services["registry"].healthcheck
    assert check is not None
    words = [sys.executable, *check.test[2:-1], f"{url}/healthz"]
    words = [word.replace("/opt/quantry", str(ROOT)) for word in words]
    return await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True, check=False, timeout=20)


async def test_a_container_is_healthy_while_its_service_is(registry: Registry) -> None:
    well = await look(registry.url)
    assert (well.returncode, well.stderr) == (0, "")
    for bucket in (registry.parts.vault.bucket, registry.parts.staging.bucket):
        for key in list(registry.parts.store.list(bucket, "")):
            registry.parts.store.delete(bucket, key)
        registry.parts.store._client.remove_bucket(bucket)  # type: ignore[attr-defined]
    ill = await look(registry.url)
    assert ill.returncode == 1
    assert "answers 503" in ill.stderr
    assert "object store" in ill.stderr
    gone = await look("http://127.0.0.1:1")
    assert gone.returncode == 1
    assert "does not answer" in gone.stderr
