"""``python -m bench.artifacts.memory <MiB> <scratch>``: moves one sparse file through a process of its own, and says how that grew."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_blobs.vault import Staging, Vault
from quantry_core.versions import staging_key

MIB = 1024**2


def peak_growth_mb(settings: BlobSettings, mib: int) -> float:
    """Returns by how many MB upload, seal and download of a file of ``mib`` MiB made a process grow."""
    environment = {
        **os.environ,
        "QUANTRY_S3_ENDPOINT": settings.endpoint,
        "QUANTRY_S3_ACCESS_KEY": settings.access_key,
        "QUANTRY_S3_SECRET_KEY": settings.secret_key.get_secret_value(),
    }
    with tempfile.TemporaryDirectory(prefix="quantry-bench-", dir="/tmp") as scratch:
        command = [sys.executable, "-m", "bench.artifacts.memory", str(mib), scratch]
        return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


def peak_bytes() -> int:
    """Returns the most that this process has had in memory. What getrusage says begins with its parent's."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024


def main() -> None:
    """Prints the growth in MB."""
    mib, scratch = int(sys.argv[1]), Path(sys.argv[2])
    settings = BlobSettings()
    store = MinioStore(settings)
    for bucket in (settings.vault_bucket, settings.staging_bucket):
        store.ensure_bucket(bucket)
    source = scratch / "model.safetensors"
    with source.open("wb") as file:
        file.truncate(mib * MIB)
    before = peak_bytes()
    vault = Vault(store, settings.vault_bucket)
    staged = Staging(store, settings.staging_bucket).put("job_memory", 1, source.name, source)
    source.unlink()
    vault.seal(settings.staging_bucket, staging_key("job_memory", 1, source.name), staged)
    vault.fetch(staged, scratch / "out")
    print((peak_bytes() - before) / 1e6)


if __name__ == "__main__":
    main()
