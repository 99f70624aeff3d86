"""A MinIO server is told of buckets, keys and what each may do; once or twice is the same. What the policies let each do is proven in
tests/conformance/test_split_keys.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import pytest

from factories.minio_admin import MinioDouble, minio_double
from quantry_blobs.minio_setup import EXIT_REFUSED, EXIT_SETTINGS, main
from quantry_core.bucket_policies import KeyHolder, bucket_policy

ROOT_PASSWORD = "the-root-password"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MinioDouble]:
    with minio_double(ROOT_PASSWORD) as double:
        given = {"ENDPOINT": double.endpoint, "ROOT_USER": "root-user", "ROOT_PASSWORD": ROOT_PASSWORD}
        given |= {f"{holder.upper()}_SECRET_KEY": f"secret-of-{holder}" for holder in KeyHolder}
        for name, value in given.items():
            monkeypatch.setenv(f"QUANTRY_MINIO_{name}", value)
        yield double


def test_each_key_may_do_what_its_policy_says_and_again_changes_nothing(server: MinioDouble, capsys: pytest.CaptureFixture[str]) -> None:
    assert main() == 0
    assert server.signed_by == {"root-user"}
    assert server.buckets == {"quantry-vault": True, "quantry-staging": False}, "the lock cannot be turned on later"
    assert server.users == {f"quantry-{holder}": f"secret-of-{holder}" for holder in KeyHolder}
    assert server.attached == {f"quantry-{holder}": f"quantry-{holder}" for holder in KeyHolder}
    assert server.policies == {
        f"quantry-{holder}": bucket_policy(holder, vault="quantry-vault", staging="quantry-staging") for holder in KeyHolder
    }
    assert "<NoncurrentDays>30</NoncurrentDays>" in server.lifecycles["quantry-vault"]
    before = asdict(server)
    assert main() == 0
    assert asdict(server) == before
    said = capsys.readouterr().err
    assert said.count("bucket quantry-vault: made") == said.count("bucket quantry-vault: was there") == 1
    assert not any(word in said for word in (ROOT_PASSWORD, *server.users.values()))


def test_what_is_wrong_is_said_without_a_secret(
    server: MinioDouble, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("quantry_blobs.minio_setup.NUM_RETRIES", 0)
    monkeypatch.setenv("QUANTRY_MINIO_ENDPOINT", "127.0.0.1:1")
    assert main() == EXIT_REFUSED
    assert "127.0.0.1:1 cannot be set up" in capsys.readouterr().err
    monkeypatch.setenv("QUANTRY_MINIO_ENDPOINT", server.endpoint)
    monkeypatch.delenv("QUANTRY_MINIO_WORKER_SECRET_KEY")
    assert main() == EXIT_SETTINGS
    said = capsys.readouterr().err
    assert "QUANTRY_MINIO_WORKER_SECRET_KEY: Field required" in said
    assert "secret-of" not in said
