"""The audit log: who did what to which thing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.keys import Role


class AuditEntry(BaseModel):
    """One act, written in the same transaction as what it tells of."""

    model_config = ConfigDict(frozen=True)

    id: str
    project_id: str
    key_id: str | None = Field(description="Who; None where the platform itself acted.")
    role: Role | None
    action: str = Field(description="job.submit, alias.move and the like.")
    noun: str
    noun_id: str
    data: dict[str, Any]
    created_at: datetime
