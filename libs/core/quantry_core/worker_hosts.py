"""Worker hosts: how a machine elsewhere comes by a worker's key of its own, without anybody sending it one."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.names import Name

ENROLMENT_PREFIX = "qte_"
DEFAULT_ENROLMENT_S = 3600
MAX_ENROLMENT_S = 7 * 24 * 3600
MAX_TOKEN_CHARS = 128
HOST_KEY_OVERLAP_S = 300
"""How long the old secret of a host's key works after the host rotated it: its other processes read the new one meanwhile."""


def new_enrolment_token() -> str:
    """Returns a fresh token: ``qte_`` and 43 URL-safe characters (256 random bits). Shown once, never stored."""
    return ENROLMENT_PREFIX + secrets.token_urlsafe(32)


class EnrolmentRequest(BaseModel):
    """Body of ``POST /api/v1/worker-enrolments``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="What the host will be called; for people.")
    lifetime_s: int = Field(default=DEFAULT_ENROLMENT_S, ge=60, le=MAX_ENROLMENT_S, description="Seconds that the token may be used in.")


class Enrolment(BaseModel):
    """A one-time token as it is listed: the token itself is never stored."""

    model_config = ConfigDict(frozen=True)

    id: str
    object: Literal["enrolment"] = "enrolment"
    name: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    host_id: str | None = Field(default=None, description="The host that used it.")
    revoked_at: datetime | None = None


class NewEnrolment(BaseModel):
    """A token just made: the only time that it is shown."""

    model_config = ConfigDict(frozen=True)

    enrolment: Enrolment
    token: str


class EnrolmentExchange(BaseModel):
    """Body of ``POST /api/v1/enrol``: what a host sends, which has no key yet."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    token: str = Field(min_length=1, max_length=MAX_TOKEN_CHARS, description=f"The one-time token: {ENROLMENT_PREFIX}...")
    hostname: str = Field(default="", max_length=128, description="What the machine calls itself; for people.")


class WorkerHost(BaseModel):
    """A machine that was enrolled, with a worker's key of its own."""

    model_config = ConfigDict(frozen=True)

    id: str
    object: Literal["worker_host"] = "worker_host"
    name: str
    hostname: str
    key_id: str
    key_prefix: str = Field(description="The first 8 characters of its key, to recognise it by.")
    enrolled_at: datetime
    rotated_at: datetime | None = Field(default=None, description="When it exchanged its key last.")
    last_used_at: datetime | None = Field(default=None, description="When its key was used last, within minutes.")
    revoked_at: datetime | None = None
    num_workers_alive: int = Field(default=0, description="Worker processes with its key that were heard of in the last minute.")


class HostKey(BaseModel):
    """A host with the secret of its key: the only time that is shown."""

    model_config = ConfigDict(frozen=True)

    host: WorkerHost
    secret: str
