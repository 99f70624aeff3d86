"""Identifiers: a prefix that names the noun, and a UUIDv7 that sorts by time of creation."""

from __future__ import annotations

import re
import secrets
import threading
import time
from enum import StrEnum
from uuid import UUID

_HEX = r"[0-9a-f]{32}"
_LOW_BITS = 62
_RANDOM_BITS = 12 + _LOW_BITS
_STEP_BITS = 32


class IdPrefix(StrEnum):
    """The nouns that have an id of their own."""

    PROJECT = "prj"
    KEY = "key"
    JOB = "job"
    PIPELINE = "pip"
    SCHEDULE = "sch"
    SCHEDULE_RUN = "run"
    WORKER = "wrk"
    WORKER_HOST = "wkh"
    ENROLMENT = "enr"
    EVENT = "evt"
    MODEL = "mod"
    VERSION = "ver"
    DATASET = "dat"
    UPLOAD = "upl"
    VAULT_RUN = "vrn"
    RETENTION_RUN = "ret"
    EVIDENCE = "evi"
    DEPLOYMENT = "dep"
    RELEASE = "rel"
    ROLLOUT = "rol"
    REPLICA = "rep"
    PERIOD = "per"
    ADAPTER = "ada"
    WEBHOOK = "whk"
    DELIVERY = "dlv"
    AUDIT = "aud"


class _Sequence:
    """Version 7 UUIDs of one process, each greater than the one before, whatever the clock does.

    Within a millisecond, or where the clock went back, the last value grows by a random step: method 2 of RFC 9562,
    section 6.2, so that two records of one transaction sort in the order in which they were made.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._milliseconds = 0
        self._random = 0

    def next(self) -> UUID:
        with self._lock:
            now = time.time_ns() // 1_000_000
            step = 1 + secrets.randbits(_STEP_BITS)
            if now > self._milliseconds:
                self._milliseconds, self._random = now, secrets.randbits(_RANDOM_BITS)
            elif self._random + step < 1 << _RANDOM_BITS:
                self._random += step
            else:
                self._milliseconds, self._random = self._milliseconds + 1, secrets.randbits(_RANDOM_BITS)
            return _version_7(self._milliseconds, self._random)


def _version_7(milliseconds: int, random: int) -> UUID:
    high, low = random >> _LOW_BITS, random & (1 << _LOW_BITS) - 1
    return UUID(int=(milliseconds & (1 << 48) - 1) << 80 | 0x7 << 76 | high << 64 | 0b10 << _LOW_BITS | low)


_SEQUENCE = _Sequence()


def uuid7(unix_ms: int | None = None) -> UUID:
    """Returns a version 7 UUID (RFC 9562, section 5.7): 48 bits of Unix time in milliseconds, then 74 random bits.

    Without ``unix_ms`` it is greater than every one that this process made before.
    """
    if unix_ms is None:
        return _SEQUENCE.next()
    return _version_7(unix_ms, secrets.randbits(_RANDOM_BITS))


def new_id(prefix: IdPrefix) -> str:
    """Returns a fresh id such as ``job_0197...``: the prefix, an underscore, 32 hex digits."""
    return f"{prefix}_{uuid7().hex}"


def is_id(text: str, prefix: IdPrefix) -> bool:
    """Tells whether ``text`` has the form of an id of this noun; it need not exist."""
    return re.fullmatch(f"{prefix}_{_HEX}", text) is not None


def is_any_id(text: str) -> bool:
    """Tells whether ``text`` has the form of an id of some noun, known or to come."""
    return re.fullmatch(f"[a-z]{{3}}_{_HEX}", text) is not None
