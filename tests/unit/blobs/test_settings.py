from __future__ import annotations

import pytest
from pydantic import ValidationError

from quantry_blobs.settings import BlobSettings


def test_they_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUANTRY_S3_ENDPOINT", "127.0.0.1:9000")
    monkeypatch.setenv("QUANTRY_S3_ACCESS_KEY", "key")
    monkeypatch.setenv("QUANTRY_S3_SECRET_KEY", "secret")
    settings = BlobSettings()
    assert (settings.endpoint, settings.secure, settings.region) == ("127.0.0.1:9000", False, "us-east-1")
    assert (settings.vault_bucket, settings.staging_bucket) == ("quantry-vault", "quantry-staging")
    assert settings.secret_key.get_secret_value() == "secret"
    assert "secret_key=SecretStr('**********')" in repr(settings)


def test_a_part_smaller_than_s3_allows_is_refused() -> None:
    with pytest.raises(ValidationError, match="part_bytes"):
        BlobSettings(endpoint="a:1", access_key="k", secret_key="s", part_bytes=1024)
