"""Identifiers: a prefix that names the noun, and a UUIDv7 that sorts by time of creation."""

from __future__ import annotations

import re
import secrets
import time
from enum import StrEnum
from uuid import UUID

_HEX = r"[0-9a-f]{32}"


class IdPrefix(StrEnum):
    """The nouns that have an id of their own."""

    PROJECT = "prj"
    KEY = "key"
    JOB = "job"
    PIPELINE = "pip"
    SCHEDULE = "sch"
    SCHEDULE_RUN = "run"
    WORKER = "wrk"
    EVENT = "evt"
    MODEL = "mod"
    VERSION = "ver"
    DATASET = "dat"
    UPLOAD = "upl"
    VAULT_RUN = "vrn"
    EVIDENCE = "evi"
    DEPLOYMENT = "dep"
    RELEASE = "rel"
    ROLLOUT = "rol"
    REPLICA = "rep"
    AUDIT = "aud"


def uuid7(unix_ms: int | None = None) -> UUID:
    """Returns a version 7 UUID (RFC 9562, section 5.7): 48 bits of Unix time in milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000 if unix_ms is None else unix_ms
    value = (milliseconds & (1 << 48) - 1) << 80
    value |= 0x7 << 76
    value |= secrets.randbits(12) << 64
    value |= 0b10 << 62
    value |= secrets.randbits(62)
    return UUID(int=value)


def new_id(prefix: IdPrefix) -> str:
    """Returns a fresh id such as ``job_0197...``: the prefix, an underscore, 32 hex digits."""
    return f"{prefix}_{uuid7().hex}"


def is_id(text: str, prefix: IdPrefix) -> bool:
    """Tells whether ``text`` has the form of an id of this noun; it need not exist."""
    return re.fullmatch(f"{prefix}_{_HEX}", text) is not None


def is_any_id(text: str) -> bool:
    """Tells whether ``text`` has the form of an id of some noun, known or to come."""
    return re.fullmatch(f"[a-z]{{3}}_{_HEX}", text) is not None
