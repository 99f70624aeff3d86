"""The audit log: who did what to which thing, each entry chained to the one before it by its hash.

An outsider can check a chain with nothing but SHA-256: docs/access.md says how the bytes are made.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from quantry_core.keys import Role

CHAIN_FORMAT = 1
"""How the bytes of an entry are made; part of them."""
GENESIS_HASH = "0" * 64
"""Stands for the entry before a project's first."""


class AuditEntry(BaseModel):
    """One act, written in the same transaction as what it tells of."""

    model_config = ConfigDict(frozen=True)

    id: str
    project_id: str
    seq: int = Field(description="Position in the project's chain, from 1, without a gap.")
    key_id: str | None = Field(description="Who; None where the platform itself acted.")
    role: Role | None
    action: str = Field(description="job.submit, alias.move and the like.")
    noun: str
    noun_id: str
    data: dict[str, Any]
    created_at: datetime
    previous_hash: str = Field(description="Hash of the entry before; 64 zeros before the first.")
    hash: str = Field(description="SHA-256 of the entry's canonical JSON, in hex.")


class AuditFilter(BaseModel):
    """Which entries are asked for. None: any."""

    model_config = ConfigDict(frozen=True)

    key_id: str | None = None
    action: str | None = Field(default=None, description="job.submit alone, or every act on a noun: job.*")
    noun: str | None = None
    noun_id: str | None = None
    since: AwareDatetime | None = Field(default=None, description="Not before; with its zone.")
    until: AwareDatetime | None = Field(default=None, description="Before; with its zone.")


class AuditAnchor(BaseModel):
    """The last entry that retention removed from the beginning of a chain: what is left hangs on its hash."""

    model_config = ConfigDict(frozen=True)

    seq: int
    hash: str
    created_at: datetime = Field(description="When the prefix was removed.")


class AuditBreak(BaseModel):
    """The first place where a chain does not hold."""

    model_config = ConfigDict(frozen=True)

    seq: int = Field(description="Position where the chain breaks.")
    entry_id: str | None = Field(default=None, description="The entry found there; None where one is missing.")
    why: str


class AuditVerification(BaseModel):
    """What a walk along a whole chain found. Keep ``last_seq`` and ``last_hash`` elsewhere: a later walk can be held against them."""

    model_config = ConfigDict(frozen=True)

    project_id: str
    is_whole: bool
    num_entries: int = Field(description="Entries looked at.")
    first_seq: int | None
    last_seq: int
    last_hash: str = Field(description="Of the chain's end as the platform has noted it.")
    anchor: AuditAnchor | None = Field(default=None, description="Where retention cut the chain.")
    broken_at: AuditBreak | None = None


def canonical_json(value: Any) -> bytes:
    """Returns the one way to write a JSON value: keys sorted by code point, no space, ASCII alone, whole numbers without a point.

    A number that is whole is written as an integer, whatever it was given as (JSONB does not tell 1e22 and an integer apart, and has
    no minus zero); any other as the shortest decimal that reads back as the same double, in Python's notation.
    """
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def entry_hash(entry: AuditEntry) -> str:
    """Returns the hash that an entry must have, of everything in it but that hash."""
    return chained_hash(entry.model_dump(mode="python", exclude={"hash"}))


def chained_hash(fields: Mapping[str, Any]) -> str:
    """Returns the SHA-256 in hex of an entry's fields: those of AuditEntry but ``hash``."""
    written = dict(fields)
    written["created_at"] = moment_text(fields["created_at"])
    written["format"] = CHAIN_FORMAT
    return hashlib.sha256(canonical_json(written)).hexdigest()


def moment_text(moment: datetime) -> str:
    """Returns a moment in UTC to the microsecond: ``2026-11-23T12:00:00.000000Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def find_break(entries: Sequence[AuditEntry], *, after_seq: int, after_hash: str) -> AuditBreak | None:
    """Returns the first of ``entries``, by seq, that does not follow from the one before it; None where all do."""
    seq, before = after_seq, after_hash
    for entry in entries:
        seq += 1
        if entry.seq != seq:
            return AuditBreak(seq=seq, why=f"the entry is missing: {entry.seq} follows {seq - 1}")
        if entry.previous_hash != before:
            return AuditBreak(seq=seq, entry_id=entry.id, why="it does not follow from the entry before it: one of the two was exchanged")
        if entry_hash(entry) != entry.hash:
            return AuditBreak(seq=seq, entry_id=entry.id, why="its content is not what was hashed when it was written")
        before = entry.hash
    return None


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
