"""For how long things are kept, read from the environment."""

from __future__ import annotations

import os
from typing import Final

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from quantry_core.retention import RETAINED, KeepDays

MAX_DAYS = 36_500.0
MIN_AUDIT_DAYS = 1.0
MIN_IDEMPOTENCY_DAYS = 0.05
"""A provider's token, which lives for minutes, opens one session alone because it is remembered among these."""

RENAMED: Final = {
    "QUANTRY_LOG_RETENTION_S": "QUANTRY_LOG_KEEP_DAYS",
    "QUANTRY_KEY_RETENTION_S": "QUANTRY_IDEMPOTENCY_KEEP_DAYS",
    "QUANTRY_CLEAN_UP_INTERVAL_S": "QUANTRY_RETENTION_INTERVAL_S",
}
"""Variables of earlier releases. One that is set and not heard would have things removed sooner than somebody meant."""


class RetentionSettings(BaseSettings):
    """``QUANTRY_LOG_KEEP_DAYS`` and so on: days, and 0 means for ever."""

    model_config = SettingsConfigDict(env_prefix="QUANTRY_", frozen=True, extra="ignore")

    retention_interval_s: float = Field(default=3600.0, gt=0, description="Seconds between two looks for what is kept long enough.")
    log_keep_days: float = Field(
        default=30.0, ge=0, le=MAX_DAYS, description="Days that log and progress of an ended job are kept; its states stay. 0: for ever."
    )
    idempotency_keep_days: float = Field(
        default=1.0,
        ge=0,
        le=MAX_DAYS,
        description="Days that an Idempotency-Key is remembered; at least 0.05. 0: for ever.",
    )
    webhook_keep_days: float = Field(
        default=30.0, ge=0, le=MAX_DAYS, description="Days that messages which are over are kept, with their attempts. 0: for ever."
    )
    traffic_keep_days: float = Field(
        default=30.0,
        ge=0,
        le=MAX_DAYS,
        description="Days that what gateways measured is kept; that of a rollout which is not over in any case. 0: for ever.",
    )
    checkpoint_keep_days: float = Field(
        default=7.0,
        ge=0,
        le=MAX_DAYS,
        description="Days that checkpoints of a training job are kept which failed or was cancelled. 0: for ever.",
    )
    schedule_run_keep_days: float = Field(
        default=365.0,
        ge=0,
        le=MAX_DAYS,
        description="Days that it is kept what became of a schedule's due times; the newest of each stays. 0: for ever.",
    )
    worker_keep_days: float = Field(
        default=7.0, ge=0, le=MAX_DAYS, description="Days after which a worker that was not heard of is forgotten. 0: never."
    )
    audit_keep_days: float = Field(
        default=0.0,
        ge=0,
        le=MAX_DAYS,
        description="Days that entries of the audit log are kept; the chain goes on from an anchor. 0, the default: for ever.",
    )
    quarantine_keep_days: float = Field(
        default=90.0,
        ge=0,
        le=MAX_DAYS,
        description="Days after which a quarantined version lets go of its bytes; its row, manifest and evidence stay. 0: never.",
    )
    retention_run_keep_days: float = Field(
        default=365.0, ge=0, le=MAX_DAYS, description="Days that reports of what was removed are kept. 0: for ever."
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_renamed(cls, values: object) -> object:
        for name, now in RENAMED.items():
            if name in os.environ:
                unit = "in seconds" if now.endswith("_S") else "in days, 0 for ever"
                raise ValueError(f"{name} is {now} now, {unit}: set that one instead")
        return values

    @model_validator(mode="after")
    def _check_least(self) -> RetentionSettings:
        if 0 < self.idempotency_keep_days < MIN_IDEMPOTENCY_DAYS:
            raise ValueError(f"QUANTRY_IDEMPOTENCY_KEEP_DAYS is at least {MIN_IDEMPOTENCY_DAYS:g}, or 0 for ever")
        if 0 < self.audit_keep_days < MIN_AUDIT_DAYS:
            raise ValueError(f"QUANTRY_AUDIT_KEEP_DAYS is at least {MIN_AUDIT_DAYS:g} day, or 0 for ever")
        return self

    @property
    def keep_days(self) -> KeepDays:
        """For how long each kind is kept; None: for ever, or for as long as each thing says itself."""
        days: dict[str, float] = {f"QUANTRY_{name.upper()}": value for name, value in self.model_dump().items()}
        return {line.kind: None if line.setting is None else days[line.setting] or None for line in RETAINED}
