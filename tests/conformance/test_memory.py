"""A transfer's memory does not grow with the object."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from quantry_blobs.settings import BlobSettings

NUM_BYTES = 160 * 1024**2
PARTS_HELD = 10
"""Parts in flight, the ones being read and sent, and their copies on the way into a socket."""

CODE = """
import json, resource, sys
from pathlib import Path
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

values, folder = json.loads(sys.argv[1]), Path(sys.argv[2])
store = MinioStore(BlobSettings(**values))
store.ensure_bucket("memory")
before = peak()
stored = store.put_file("memory", "big", folder / "in")
store.get_file("memory", "big", folder / "out", expected=stored)
store.copy("memory", "big", "memory", "copy")
assert store.sha256("memory", "copy") == stored
store.delete("memory", "big")
store.delete("memory", "copy")
print(peak() - before)
"""


@pytest.mark.parametrize("s3_settings", ["rclone"], indirect=True)  # moto itself keeps objects in memory
def test_memory_is_flat(s3_settings: BlobSettings, tmp_path: Path) -> None:
    with (tmp_path / "in").open("wb") as file:
        file.truncate(NUM_BYTES)
    values = s3_settings.model_dump(mode="json") | {"secret_key": s3_settings.secret_key.get_secret_value()}
    done = subprocess.run([sys.executable, "-c", CODE, json.dumps(values), str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    growth = int(done.stdout)
    assert growth < PARTS_HELD * s3_settings.part_bytes, f"{growth / 1024**2:.0f} MiB for {NUM_BYTES / 1024**2:.0f} MiB"
    assert (tmp_path / "out").stat().st_size == NUM_BYTES
