"""A folder of somebody else's bucket, on a real S3 server."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantry_blobs.errors import StoreRefused
from quantry_blobs.foreign import ForeignFolder
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_core.errors import SourceRefused


def test_a_folder_of_a_bucket_is_listed_and_fetched_whole(blob_settings: BlobSettings, tmp_path: Path) -> None:
    store, bucket = MinioStore(blob_settings), blob_settings.staging_bucket
    store.ensure_bucket(bucket)
    contents = {"config.json": b"{}", "model.safetensors": b"0123456789" * 300_000, "empty.txt": b"", "nested/a.json": b"[]"}
    for path, content in contents.items():
        (tmp_path / "file").write_bytes(content)
        store.put_file(bucket, f"models/tiny/{path}", tmp_path / "file")
    store.put_file(bucket, "models/tiny-2/config.json", tmp_path / "file")
    folder = ForeignFolder(store, bucket, "models/tiny/")
    assert folder.sizes == {path: len(content) for path, content in contents.items()}
    for path in folder.sizes:
        folder.fetch(path, tmp_path / "fetched" / path)
    assert {path: (tmp_path / "fetched" / path).read_bytes() for path in contents} == contents
    with pytest.raises(SourceRefused, match="nothing lies under"):
        ForeignFolder(store, bucket, "models/other/")
    with pytest.raises((StoreRefused, SourceRefused)):
        ForeignFolder(store, "no-such-bucket-here", "")
    store.close()
