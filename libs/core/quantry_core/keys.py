"""API keys: how they look, how they are hashed, what each role may do."""

from __future__ import annotations

import hashlib
import secrets
from datetime import datetime
from enum import StrEnum

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from quantry_core.names import Name

KEY_PREFIX = "qtr_"
MAX_OVERLAP_S = 7 * 24 * 3600
"""Longest time that a rotated key's old secret may still work, in seconds."""
LAST_USED_COARSENESS_S = 300
"""``last_used_at`` is written again only when it is older than this, in seconds."""


class Role(StrEnum):
    """What a key may do. People: viewer < operator < admin. Machines: worker and gateway, each one door only."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    WORKER = "worker"
    GATEWAY = "gateway"


_RANK = {Role.VIEWER: 1, Role.OPERATOR: 2, Role.ADMIN: 3}


def role_covers(held: Role, needed: Role) -> bool:
    """Tells whether a key of role ``held`` may do what ``needed`` may. Machine roles cover only themselves."""
    if held in _RANK and needed in _RANK:
        return _RANK[held] >= _RANK[needed]
    return held is needed


def new_key_secret() -> str:
    """Returns a fresh secret: ``qtr_`` and 43 URL-safe characters (256 random bits). Shown once, never stored."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def hash_key(secret: str) -> str:
    """Returns the SHA-256 of a secret in hex. The secret has 256 random bits, so a slow hash would add nothing."""
    return hashlib.sha256(secret.encode()).hexdigest()


class KeyLimits(BaseModel):
    """What a key may ask of the data plane. None: no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    requests_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    tokens_per_minute: int | None = Field(default=None, ge=1, le=1_000_000_000, description="Prompt and completion, as answers say.")


class Identity(BaseModel):
    """Who makes a request."""

    model_config = ConfigDict(frozen=True)

    key_id: str
    project_id: str
    role: Role
    is_platform: bool = Field(default=False, description="The project is the platform's own: its admins look after the installation.")


class ApiKey(BaseModel):
    """A key as it is listed: the secret itself is never stored."""

    model_config = ConfigDict(frozen=True)

    id: str
    project_id: str
    name: str
    role: Role
    prefix: str = Field(description="The first 8 characters of the secret, to recognise it by.")
    limits: KeyLimits = Field(default=KeyLimits(), description="What gateways let through for it; each gateway counts on its own.")
    created_at: datetime
    expires_at: datetime | None = Field(default=None, description="From then on it is refused. None: it does not expire.")
    rotated_at: datetime | None = Field(default=None, description="When it got the secret that it has now, if that is not its first.")
    old_secret_until: datetime | None = Field(default=None, description="Until then the secret before the last rotation works too.")
    last_used_at: datetime | None = Field(
        default=None, description=f"Within {LAST_USED_COARSENESS_S // 60} minutes; of the control plane and of gateways."
    )
    revoked_at: datetime | None = None


class KeyRequest(BaseModel):
    """Body of ``POST /api/v1/keys``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name = Field(description="What it is for; for people.")
    role: Role
    limits: KeyLimits = KeyLimits()
    expires_at: AwareDatetime | None = Field(default=None, description="A moment ahead, with its zone. None: it does not expire.")


class KeyRotation(BaseModel):
    """Body of ``POST /api/v1/keys/{id}/rotate``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    overlap_s: int = Field(
        default=0, ge=0, le=MAX_OVERLAP_S, description="Seconds that the old secret still works. 0: it is refused from now on."
    )
    expires_at: AwareDatetime | None = Field(default=None, description="A new moment of expiry. None: that which it has stays.")


class NewKey(BaseModel):
    """A key just made, with its secret: the only time that is shown."""

    model_config = ConfigDict(frozen=True)

    key: ApiKey
    secret: str


class KnownKey(BaseModel):
    """What a secret was found to be: whose, whether it still holds, and whether its use is to be noted."""

    model_config = ConfigDict(frozen=True)

    identity: Identity
    is_expired: bool = False
    is_use_noted: bool = True
    """Its last use was noted not long ago."""
