"""The peers: each does what the platform does, as its own documentation would have it done."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from minio import Minio
from minio.commonconfig import CopySource

from quantry_blobs.settings import BlobSettings
from quantry_local.s3 import server_program

CHUNK_BYTES = 1024**2


class Rclone:
    """The command line, with as many transfers of parts at once as the platform."""

    name = "rclone"

    def __init__(self, settings: BlobSettings, scratch: Path) -> None:
        self._environment = {
            **os.environ,
            "RCLONE_CONFIG": str(scratch / "rclone.conf"),
            "RCLONE_CONFIG_PEER_TYPE": "s3",
            "RCLONE_CONFIG_PEER_PROVIDER": "Rclone",
            "RCLONE_CONFIG_PEER_ENDPOINT": f"http://{settings.endpoint}",
            "RCLONE_CONFIG_PEER_ACCESS_KEY_ID": settings.access_key,
            "RCLONE_CONFIG_PEER_SECRET_ACCESS_KEY": settings.secret_key.get_secret_value(),
            "RCLONE_S3_CHUNK_SIZE": str(settings.part_bytes) + "B",
            "RCLONE_S3_UPLOAD_CONCURRENCY": str(settings.num_parallel_parts),
        }

    def upload(self, file: Path, bucket: str, key: str) -> None:
        self._run("copyto", str(file), f"peer:{bucket}/{key}")

    def check_and_copy(self, bucket: str, key: str, to_bucket: str, to_key: str) -> None:
        """Hashes what was uploaded, by reading it, and copies it to where it stays; rclone looks for it there once more."""
        self._run("hashsum", "sha256", "--download", f"peer:{bucket}/{key}")
        self._run("copyto", f"peer:{bucket}/{key}", f"peer:{to_bucket}/{to_key}")

    def download_and_hash(self, bucket: str, key: str, to: Path) -> None:
        self._run("copyto", f"peer:{bucket}/{key}", str(to))
        _hash_and_sync(to)

    def _run(self, *arguments: str) -> None:
        command = [str(server_program()), "--no-check-dest", *arguments]
        subprocess.run(command, env=self._environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class MinioPy:
    """The library, with its own calls for whole files."""

    name = "minio-py"

    def __init__(self, settings: BlobSettings) -> None:
        self._settings = settings
        secret = settings.secret_key.get_secret_value()
        self._client = Minio(settings.endpoint, settings.access_key, secret, secure=False, region=settings.region)

    def upload(self, file: Path, bucket: str, key: str) -> None:
        self._client.fput_object(
            bucket, key, str(file), part_size=self._settings.part_bytes, num_parallel_uploads=self._settings.num_parallel_parts
        )

    def check_and_copy(self, bucket: str, key: str, to_bucket: str, to_key: str) -> None:
        """Hashes what was uploaded, by reading it, copies it to where it stays, and looks for it there once more."""
        digest = hashlib.sha256()
        response = self._client.get_object(bucket, key)
        for chunk in response.stream(CHUNK_BYTES):
            digest.update(chunk)
        response.release_conn()
        self._client.copy_object(to_bucket, to_key, CopySource(bucket, key))
        # The server answers the first question about a new object when it has hashed it (MD5): here for all three.
        self._client.stat_object(to_bucket, to_key)

    def download_and_hash(self, bucket: str, key: str, to: Path) -> None:
        self._client.fget_object(bucket, key, str(to))
        _hash_and_sync(to)


def _hash_and_sync(path: Path) -> None:
    with path.open("rb") as stream:
        hashlib.file_digest(stream, "sha256")
        os.fsync(stream.fileno())
