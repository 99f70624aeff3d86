"""What each part's S3 key may do, as policy documents of the AWS IAM language, which S3 servers with policies understand.

A worker's key reads the vault and writes staging, and nothing else; a reader's only reads the vault. The registry's key
writes the vault, but no key of the platform removes a version of an object, or shortens its retention: where the bucket keeps
versions, nothing that happens here loses bytes for good.
Actions: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazons3.html
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

POLICY_VERSION = "2012-10-17"
"""Of the policy language."""


class KeyHolder(StrEnum):
    """The parts that have an S3 key of their own."""

    WORKER = "worker"
    REGISTRY = "registry"
    READER = "reader"
    """api and deploy: they read versions, and write nothing."""


_WRITES = ["s3:PutObject", "s3:DeleteObject", "s3:PutObjectRetention", "s3:PutObjectLegalHold", "s3:AbortMultipartUpload"]
_NEVER = ["s3:DeleteObjectVersion", "s3:BypassGovernanceRetention", "s3:PutBucketPolicy", "s3:DeleteBucket"]


def bucket_policy(holder: KeyHolder, *, vault: str, staging: str) -> dict[str, Any]:
    """Returns the policy document for a part's key, for buckets of these names.

    What is not allowed is refused; what must never be is denied too, so that a broader policy of the same key cannot allow it.
    """
    statements = {
        KeyHolder.WORKER: lambda: _worker(vault, staging),
        KeyHolder.REGISTRY: lambda: _registry(vault, staging),
        KeyHolder.READER: lambda: _reader(vault, staging),
    }[holder]()
    return {"Version": POLICY_VERSION, "Statement": statements}


def _reader(vault: str, staging: str) -> list[dict[str, Any]]:
    return [
        _statement("ReadTheVault", "Allow", ["s3:GetObject"], [f"{_arn(vault)}/sha256/*"]),
        _statement("SeeTheVault", "Allow", ["s3:ListBucket", "s3:GetBucketLocation"], [_arn(vault)]),
        _statement("NeverWrite", "Deny", [*_WRITES, *_NEVER], [_arn(bucket) + end for bucket in (vault, staging) for end in ("", "/*")]),
    ]


def _worker(vault: str, staging: str) -> list[dict[str, Any]]:
    writes = [*_WRITES, *_NEVER]
    return [
        _statement("ReadTheVault", "Allow", ["s3:GetObject"], [f"{_arn(vault)}/sha256/*"]),
        _statement("SeeTheBuckets", "Allow", ["s3:ListBucket", "s3:GetBucketLocation"], [_arn(vault), _arn(staging)]),
        _statement("WriteStaging", "Allow", ["s3:PutObject", "s3:AbortMultipartUpload"], [f"{_arn(staging)}/*"]),
        _statement("NeverWriteTheVault", "Deny", writes, [_arn(vault), f"{_arn(vault)}/*"]),
    ]


def _registry(vault: str, staging: str) -> list[dict[str, Any]]:
    see = [
        "s3:ListBucket",
        "s3:ListBucketVersions",
        "s3:GetBucketLocation",
        "s3:CreateBucket",
        "s3:GetBucketVersioning",
        "s3:GetBucketObjectLockConfiguration",
    ]
    both = [f"{_arn(vault)}/*", f"{_arn(staging)}/*"]
    return [
        _statement("SeeTheBuckets", "Allow", see, [_arn(vault), _arn(staging)]),
        _statement("ReadAndRemove", "Allow", ["s3:GetObject", "s3:DeleteObject", "s3:AbortMultipartUpload"], both),
        _statement("WriteTheVault", "Allow", ["s3:PutObject", "s3:PutObjectRetention", "s3:GetObjectRetention"], [f"{_arn(vault)}/*"]),
        _statement("NeverForGood", "Deny", _NEVER, [_arn(vault), *both]),
    ]


def _statement(name: str, effect: str, actions: list[str], resources: list[str]) -> dict[str, Any]:
    return {"Sid": name, "Effect": effect, "Action": actions, "Resource": resources}


def _arn(bucket: str) -> str:
    return f"arn:aws:s3:::{bucket}"
