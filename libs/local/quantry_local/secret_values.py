"""The secrets of one stack: made once, kept in secrets.json, handed to processes by environment through launch files (all mode 0600)."""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quantry_local.errors import StackError
from quantry_local.private_files import write_private

FILE_NAME = "secrets.json"
CAPTURE_KEY_BYTES = 32


class Secrets(BaseModel):
    """What the parts of a stack prove themselves with, and encrypt with. The API keys are None until bootstrap has made them."""

    model_config = ConfigDict(frozen=True)

    redis_password: str
    s3_access_key: str
    s3_secret_key: str
    capture_key: str = Field(default_factory=lambda: urlsafe_b64encode(secrets.token_bytes(CAPTURE_KEY_BYTES)).decode())
    """A Fernet key. Without it no captured prompt can be read any more."""
    webhook_key: str = Field(default_factory=lambda: urlsafe_b64encode(secrets.token_bytes(CAPTURE_KEY_BYTES)).decode())
    """A Fernet key. Without it no webhook can be sent any more."""
    admin_key: str | None = None
    worker_token: str | None = None
    gateway_token: str | None = None


KEY_NAMES = {"admin_key": "admin", "worker_token": "worker", "gateway_token": "gateway"}
"""Field by the name that bootstrap knows the key by."""


def load_secrets(state_dir: Path) -> Secrets:
    """Returns the stack's secrets, made and saved first as far as there are none; raises StackError for a damaged file."""
    path = state_dir / FILE_NAME
    if not path.exists():
        fresh = Secrets(
            redis_password=secrets.token_hex(24), s3_access_key=f"quantry{secrets.token_hex(6)}", s3_secret_key=secrets.token_hex(24)
        )
        save_secrets(state_dir, fresh)
        return fresh
    try:
        kept = Secrets.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise StackError(f"{path} is damaged; restore it from a copy, or start afresh with another --state-dir") from error
    if kept.model_fields_set != set(Secrets.model_fields):
        # Of an older release: what it lacked was made just now, and must stay the same from here on.
        save_secrets(state_dir, kept)
    return kept


def save_secrets(state_dir: Path, values: Secrets) -> None:
    write_private(state_dir / FILE_NAME, values.model_dump_json(indent=2) + "\n")
