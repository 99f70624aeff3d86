"""How a source is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantry_core.errors import SourceRefused
from quantry_core.sources import BucketSource, HubSource, UploadSource, allowing_root, check_bucket, parse_source, source_kind


@pytest.mark.parametrize(
    ("source", "owner", "name", "revision"),
    [
        ("hf:owner/name", "owner", "name", None),
        ("hf:HuggingFaceTB/SmolLM2-135M@main", "HuggingFaceTB", "SmolLM2-135M", "main"),
        ("hf:a/b@refs/pr/1", "a", "b", "refs/pr/1"),
        ("hf:a-b/c.d_e@v1.0", "a-b", "c.d_e", "v1.0"),
    ],
)
def test_a_repository_of_the_hub(source: str, owner: str, name: str, revision: str | None) -> None:
    parsed = parse_source(source)
    assert parsed == HubSource(owner=owner, name=name, revision=revision)
    assert isinstance(parsed, HubSource)
    assert parsed.repository == f"{owner}/{name}"


BAD_HUB = ["hf:", "hf:a", "hf:a/", "hf:/b", "hf:a/b/c", "hf:a/b@", "hf:../b", "hf:a/..", "hf:a/b@../x", "hf:a/b c", "hf:a/b\n"]
BAD_BUCKETS = ["s3:", "s3:ab", "s3:Bucket/a", "s3:a..b/c", "s3:bucket//a", "s3:bucket/../a", "s3:bucket/a b", "s3:/bucket/a", "s3:bucket/."]
BAD_UPLOADS = ["upload:", "upload:upl_1", "upload:ver_" + "0" * 32, "upload:upl_" + "0" * 32 + "/a"]
BAD_PATHS = ["HF:a/b", "a/b", "", ".", "/a\0b", "~/a", "file:///a"]


@pytest.mark.parametrize("source", [*BAD_HUB, *BAD_BUCKETS, *BAD_UPLOADS, *BAD_PATHS, "hf:" + "a" * 200 + "/b"])
def test_what_is_no_source_is_refused(source: str) -> None:
    with pytest.raises(SourceRefused):
        parse_source(source)


def test_a_path_is_allowed_by_the_root_it_lies_below() -> None:
    assert parse_source("/models/a") == Path("/models/a")
    roots = {Path("/data"): Path("/data"), Path("/disk/models"): Path("/models")}
    assert allowing_root(Path("/models/a"), Path("/disk/models/a"), roots) == Path("/models")
    assert allowing_root(Path("/models"), Path("/disk/models"), roots) == Path("/models")
    for outside in ("/disk/models-and-more/a", "/", "/disk/model", "/models/a"):
        with pytest.raises(SourceRefused, match=r"^/given lies outside .*: /data, /models$"):
            allowing_root(Path("/given"), Path(outside), roots)
    with pytest.raises(SourceRefused, match="QUANTRY_IMPORT_ROOTS"):
        allowing_root(Path("/models"), Path("/models"), {})


@pytest.mark.parametrize(("source", "prefix"), [("s3:models/a/b", "a/b/"), ("s3:models/a/", "a/"), ("s3:models", ""), ("s3:models/", "")])
def test_a_folder_of_a_bucket(source: str, prefix: str) -> None:
    assert parse_source(source) == BucketSource(bucket="models", prefix=prefix)


def test_an_upload_and_where_sources_lie() -> None:
    upload_id = "upl_" + "0" * 32
    assert parse_source(f"upload:{upload_id}") == UploadSource(upload_id=upload_id)
    kinds = [source_kind(source) for source in ("hf:a/b", "s3:models/a", f"upload:{upload_id}", "/models/a")]
    assert kinds == ["hub", "bucket", "upload", "folder"]


def test_only_allowed_buckets_are_read() -> None:
    check_bucket("models", ["models"])
    with pytest.raises(SourceRefused, match=r"they may read: models$"):
        check_bucket("quantry-vault", ["models"])
    with pytest.raises(SourceRefused, match="QUANTRY_IMPORT_BUCKETS"):
        check_bucket("models", [])
