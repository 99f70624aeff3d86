"""Settings of the api, read from the environment. Those of the database are in quantry_store, of the object store in quantry_blobs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from quantry_api.jobs.sources import ImportPlaces
from quantry_core.jobs import DEFAULT_QUEUES, QueueClass, Resource, parse_queues
from quantry_core.methods import DeviceKind
from quantry_store.capture_cipher import CaptureCipher
from quantry_store.webhook_cipher import WebhookCipher

MIN_HEARTBEATS_PER_LEASE = 2
SECONDS_PER_DAY = 24 * 3600.0


class ApiSettings(BaseSettings):
    """``QUANTRY_BROKER_URL`` and so on; what only this service has begins with ``QUANTRY_API_``."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_", frozen=True, extra="ignore")

    api_host: str = Field(default="127.0.0.1", description="Address to listen on.")
    api_port: int = Field(default=8001, ge=0, le=65535, description="Port to listen on.")
    broker_url: SecretStr = Field(description="Redis that wakes workers: redis://:password@host:port/0.")
    lease_s: float = Field(default=60.0, gt=0, description="Seconds an attempt holds a job without a heartbeat.")
    # So often that a cancel, which the answer to a heartbeat carries, is heard and done within 10 s, the child's grace included.
    heartbeat_s: float = Field(default=4.0, gt=0, description="Seconds between a worker's heartbeats.")
    sweep_interval_s: float = Field(
        default=5.0, gt=0, description="Seconds between two looks for expired leases, waiting jobs that may go on, and queues with work."
    )
    schedule_interval_s: float = Field(default=1.0, gt=0, description="Seconds between two looks for schedules that have something due.")
    schedule_grace_s: float = Field(
        default=60.0,
        gt=0,
        description="Seconds after which a due time that nobody came to was missed; then the missed policy holds.",
    )
    capture_keys: SecretStr | None = Field(
        default=None,
        description="Fernet keys, comma-separated, of captured prompts; the first encrypts. The same as the registry's. None: no prompt "
        "is kept.",
    )
    webhook_keys: SecretStr | None = Field(
        default=None,
        description="Fernet keys, comma-separated, of webhooks' secrets and addresses; the first encrypts. None: there are no webhooks.",
    )
    webhook_interval_s: float = Field(default=1.0, gt=0, description="Seconds between two looks for messages that are due.")
    webhook_timeout_s: float = Field(default=10.0, gt=0, le=60, description="Seconds that a receiver has to answer a message.")
    webhook_concurrency: int = Field(default=16, ge=1, le=256, description="Messages that this process sends at once.")
    webhook_disable_after_days: float = Field(
        default=5.0, gt=0, description="Days without one delivery that succeeded after which a webhook is disabled."
    )
    public_url: str | None = Field(
        default=None, pattern=r"^https?://[^\s?#]+$", description="Where this installation's API is reached: links in webhooks begin so."
    )
    dashboard_url: str | None = Field(
        default=None, pattern=r"^https?://[^\s?#]+$", description="Where people reach the dashboard: links to pages in webhooks begin so."
    )
    queues: Annotated[list[QueueClass], NoDecode] = Field(
        default=list(DEFAULT_QUEUES),
        description="Queues with the memory of a slot, smallest first: cpu=16GiB,cpu-large,gpu=24GiB,gpu-80g=80GiB; "
        "gpu-quad=4x80GiB has four GPUs for each slot.",
    )
    workers_have_deepspeed: bool = Field(
        default=False,
        description="The workers' ml environment has deepspeed, which no lock file brings; else jobs that ask for it are refused.",
    )
    engine_device: DeviceKind | None = Field(
        default=None, description="Where the engines run that deployments are served by; what they cannot load is refused at submission."
    )
    default_resource: Resource = Field(default=Resource.CPU, description="Where a job goes that names neither resource nor queue.")
    import_roots: Annotated[list[Path], NoDecode] = Field(
        default=[], description="Absolute folders below which an import may read, separated as in PATH."
    )

    import_buckets: Annotated[list[str], NoDecode] = Field(
        default=[], description="Buckets that an import may read, comma-separated; the same as the workers'."
    )

    @field_validator("capture_keys")
    @classmethod
    def _check_capture_keys(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None:
            CaptureCipher.of(keys)
        return keys

    @field_validator("webhook_keys")
    @classmethod
    def _check_webhook_keys(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None:
            WebhookCipher.of(keys)
        return keys

    @field_validator("queues", mode="before")
    @classmethod
    def _parse_queues(cls, value: object) -> object:
        return parse_queues(value) if isinstance(value, str) else value

    @field_validator("import_buckets", mode="before")
    @classmethod
    def _split_buckets(cls, value: object) -> object:
        return [name.strip() for name in value.split(",") if name.strip()] if isinstance(value, str) else value

    @field_validator("import_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        return [part for part in value.split(os.pathsep) if part] if isinstance(value, str) else value

    @field_validator("import_roots")
    @classmethod
    def _check_roots(cls, roots: list[Path]) -> list[Path]:
        relative = [str(root) for root in roots if not root.is_absolute()]
        if relative:
            raise ValueError(f"import roots are absolute paths, these are not: {', '.join(relative)}")
        return roots

    @property
    def import_places(self) -> ImportPlaces:
        """Where imports may read."""
        return ImportPlaces(self.import_roots, self.import_buckets)

    @model_validator(mode="after")
    def _check_default_resource(self) -> ApiSettings:
        if all(queue.resource is not self.default_resource for queue in self.queues):
            raise ValueError(f"jobs go to {self.default_resource} by default, but no queue is for it: {[q.name for q in self.queues]}")
        if all(queue.resource is not Resource.CPU for queue in self.queues):
            raise ValueError("imports need a cpu queue, and there is none")
        return self

    @model_validator(mode="after")
    def _check_heartbeat(self) -> ApiSettings:
        if self.heartbeat_s * MIN_HEARTBEATS_PER_LEASE > self.lease_s:
            raise ValueError(f"a lease of {self.lease_s} s leaves no room for a lost heartbeat every {self.heartbeat_s} s")
        return self
