"""The documents say what they must; that a server takes them so is proven in tests/conformance."""

from __future__ import annotations

import json

import pytest

from quantry_core.bucket_policies import KeyHolder, bucket_policy


@pytest.mark.parametrize("holder", list(KeyHolder))
def test_no_key_of_the_platform_removes_a_version_of_an_object(holder: KeyHolder) -> None:
    document = bucket_policy(holder, vault="vault", staging="staging")
    assert json.loads(json.dumps(document)) == document
    allowed = {action for statement in document["Statement"] if statement["Effect"] == "Allow" for action in statement["Action"]}
    denied = {action for statement in document["Statement"] if statement["Effect"] == "Deny" for action in statement["Action"]}
    assert {"s3:DeleteObjectVersion", "s3:BypassGovernanceRetention"} <= denied
    assert not allowed & {"s3:DeleteObjectVersion", "s3:BypassGovernanceRetention", "s3:*"}


def test_a_reader_is_allowed_nothing_that_changes_anything_or_reads_what_is_staged() -> None:
    document = bucket_policy(KeyHolder.READER, vault="vault", staging="staging")
    allowed = {
        (action, resource)
        for statement in document["Statement"]
        if statement["Effect"] == "Allow"
        for action in statement["Action"]
        for resource in statement["Resource"]
    }
    assert allowed == {
        ("s3:GetObject", "arn:aws:s3:::vault/sha256/*"),
        ("s3:ListBucket", "arn:aws:s3:::vault"),
        ("s3:GetBucketLocation", "arn:aws:s3:::vault"),
    }


def test_a_worker_is_allowed_nothing_that_changes_the_vault() -> None:
    document = bucket_policy(KeyHolder.WORKER, vault="vault", staging="staging")
    of_the_vault = [
        action
        for statement in document["Statement"]
        if statement["Effect"] == "Allow" and any(resource.startswith("arn:aws:s3:::vault") for resource in statement["Resource"])
        for action in statement["Action"]
    ]
    assert set(of_the_vault) == {"s3:GetObject", "s3:ListBucket", "s3:GetBucketLocation"}
