"""What the two policy documents of `quantry vault policies` let each key do, on a server that enforces policies."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
import pytest
from minio.commonconfig import CopySource
from pydantic import SecretStr

from conformance.servers import moto, running, settings_for
from factories.servers import free_port
from quantry_blobs.errors import StoreRefused
from quantry_blobs.s3 import MinioStore
from quantry_blobs.settings import BlobSettings
from quantry_blobs.vault import Staging, Vault
from quantry_core.bucket_policies import KeyHolder, bucket_policy
from quantry_core.errors import QuantryError
from quantry_core.versions import ManifestFile, blob_key, staging_key

VAULT, STAGING = "split-vault", "split-staging"
NUM_SET_UP_ACTIONS = 12
"""Requests before the server begins to enforce policies: two buckets, versioning, and three for each of the keys."""

SEALED = b"bytes of a master"
FILE = ManifestFile(path="model.safetensors", size_bytes=len(SEALED), sha256=hashlib.sha256(SEALED).hexdigest())


class Stores(NamedTuple):
    """The same server, seen with each key."""

    worker: MinioStore
    registry: MinioStore
    reader: MinioStore


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    port = free_port()
    command, environment = moto(port, tmp_path_factory.mktemp("moto"))
    with running(command, environment | {"INITIAL_NO_AUTH_ACTION_COUNT": str(NUM_SET_UP_ACTIONS)}, port):
        settings = settings_for(port)
        s3, iam = (_admin(service, port) for service in ("s3", "iam"))
        for bucket in (VAULT, STAGING):
            s3.create_bucket(Bucket=bucket)
        s3.put_bucket_versioning(Bucket=VAULT, VersioningConfiguration={"Status": "Enabled"})
        made = Stores(
            *(MinioStore(_with_key(settings, iam, holder)) for holder in (KeyHolder.WORKER, KeyHolder.REGISTRY, KeyHolder.READER))
        )
        with pytest.raises(Exception, match=r"InvalidClientTokenId|InvalidAccessKeyId|AccessDenied|Forbidden|403"):
            # Else nothing below would prove anything: without a key of its own nobody may do anything by now.
            s3.list_buckets()
        made.registry.put_stream(VAULT, blob_key(FILE.sha256), io.BytesIO(SEALED))
        yield made
        for store in made:
            store.close()


def _admin(service: str, port: int) -> Any:
    session = boto3.session.Session(aws_access_key_id="nobody", aws_secret_access_key="nothing", region_name="us-east-1")
    return session.client(service, endpoint_url=f"http://127.0.0.1:{port}")


def _with_key(settings: BlobSettings, iam: Any, holder: KeyHolder) -> BlobSettings:
    iam.create_user(UserName=holder)
    document = json.dumps(bucket_policy(holder, vault=VAULT, staging=STAGING))
    iam.put_user_policy(UserName=holder, PolicyName="quantry", PolicyDocument=document)
    key = iam.create_access_key(UserName=holder)["AccessKey"]
    return settings.model_copy(update={"access_key": key["AccessKeyId"], "secret_key": SecretStr(key["SecretAccessKey"])})


def test_a_worker_reads_the_vault_and_writes_staging(stores: Stores, tmp_path: Path) -> None:
    vault = Vault(stores.worker, VAULT)
    vault.fetch(FILE, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == SEALED
    assert vault.contains(FILE.sha256, FILE.size_bytes)
    staging = Staging(stores.worker, STAGING)
    # One part, and several: that is another way of the protocol.
    for name, content in (("small", b"x" * 10), ("large", b"x" * 11 * 1024**2)):
        (tmp_path / name).write_bytes(content)
        staged = staging.put("job_1", 1, name, tmp_path / name)
        assert staged.size_bytes == len(content)


WRITES = {
    "overwrites": lambda store: store.put_stream(VAULT, blob_key(FILE.sha256), io.BytesIO(b"others")),
    "adds": lambda store: store.put_stream(VAULT, blob_key("0" * 64), io.BytesIO(b"others")),
    "adds in parts": lambda store: store.put_stream(VAULT, blob_key("1" * 64), io.BytesIO(b"x" * 11 * 1024**2)),
    "adds to incoming": lambda store: store.put_stream(VAULT, "incoming/x", io.BytesIO(b"others")),
    "copies": lambda store: store._client.copy_object(VAULT, "copy", CopySource(STAGING, staging_key("job_1", 1, "small"))),
    "deletes": lambda store: store.delete(VAULT, blob_key(FILE.sha256)),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_worker_neither_writes_nor_deletes_in_the_vault(stores: Stores, write: Any) -> None:
    before = sorted(entry.key for entry in stores.registry.entries(VAULT, ""))
    with pytest.raises(Exception, match=r"AccessDenied|Access Denied|refuses") as caught:
        write(stores.worker)
    assert not isinstance(caught.value, QuantryError) or isinstance(caught.value, StoreRefused)
    assert stores.registry.read(VAULT, blob_key(FILE.sha256), 0, 100) == SEALED
    assert sorted(entry.key for entry in stores.registry.entries(VAULT, "")) == before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_reader_reads_the_vault_and_writes_nowhere(stores: Stores, write: Any) -> None:
    assert stores.reader.read(VAULT, blob_key(FILE.sha256), 0, 100) == SEALED
    assert stores.reader.stat(VAULT, blob_key("2" * 64)) is None
    with pytest.raises(Exception, match=r"AccessDenied|Access Denied|refuses"):
        write(stores.reader)
    with pytest.raises(StoreRefused):
        stores.reader.put_stream(STAGING, "job_9/1/file", io.BytesIO(b"x"))
    assert stores.registry.read(VAULT, blob_key(FILE.sha256), 0, 100) == SEALED


def test_a_worker_does_not_delete_in_staging(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    Staging(stores.worker, STAGING).put("job_2", 1, "file", tmp_path / "file")
    with pytest.raises(StoreRefused):
        stores.worker.delete(STAGING, staging_key("job_2", 1, "file"))


def test_the_registry_seals_and_sweeps_but_deletes_nothing_for_good(stores: Stores, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"new bytes")
    file = Staging(stores.worker, STAGING).put("job_3", 1, "file", tmp_path / "file")
    vault = Vault(stores.registry, VAULT)
    assert vault.seal(STAGING, staging_key("job_3", 1, "file"), file)
    assert Staging(stores.registry, STAGING).remove_attempt("job_3", 1) == 1
    assert vault.remove(file.sha256, begin_by_s=time.monotonic() + 10)
    assert not vault.contains(file.sha256, file.size_bytes)
    client = stores.registry._client
    # The bucket keeps versions: what was removed lies under a marker, and no key of the platform removes that version.
    [kept] = [item for item in client.list_objects(VAULT, prefix=blob_key(file.sha256), include_version=True) if not item.is_delete_marker]
    with pytest.raises(Exception, match=r"AccessDenied|Access Denied"):
        client.remove_object(VAULT, blob_key(file.sha256), version_id=kept.version_id)
