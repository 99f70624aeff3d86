"""A short form of ``python -m fuzz``: requests made up from the services' own documents, against both of them as processes."""

from __future__ import annotations

from pathlib import Path

from fuzz.runs import run
from fuzz.services import DOCUMENTS, running_services
from quantry_blobs.settings import BlobSettings

SEED = 5
MAX_EXAMPLES = 2


def test_made_up_requests_break_nothing(database_url: str, redis_url: str, blob_settings: BlobSettings, tmp_path: Path) -> None:
    environment = {
        "QUANTRY_DATABASE_URL": database_url,
        "QUANTRY_BROKER_URL": redis_url,
        "QUANTRY_S3_ENDPOINT": blob_settings.endpoint,
        "QUANTRY_S3_SECURE": "false",
        "QUANTRY_S3_ACCESS_KEY": blob_settings.access_key,
        "QUANTRY_S3_SECRET_KEY": blob_settings.secret_key.get_secret_value(),
        "QUANTRY_S3_VAULT_BUCKET": blob_settings.vault_bucket,
        "QUANTRY_S3_STAGING_BUCKET": blob_settings.staging_bucket,
    }
    with running_services(environment, tmp_path) as services:
        found = [
            run(services, service, seed=SEED, phases=("fuzzing",), max_examples=MAX_EXAMPLES, folder=tmp_path) for service in DOCUMENTS
        ]
    assert [(one.failures, one.num_server_errors, one.output[-3000:]) for one in found if not one.is_clean] == []
    assert sum(one.num_cases for one in found) > 150
