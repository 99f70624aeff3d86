"""What the pages of administration say: who may see them, how a key and a project are. Pure functions from what the API tells to texts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

from quantry_core.keys import ApiKey, Identity, KeyLimits, Role, role_covers
from quantry_core.projects import Project, ProjectLimits
from quantry_dashboard import words
from quantry_dashboard.asking import NotDone
from quantry_dashboard.pages.parts import Tab

KEYS, AUDIT, WEBHOOKS, PROJECTS = "/admin/keys", "/admin/audit", "/admin/webhooks", "/admin/projects"


class State(NamedTuple):
    """In a word how something is, and the class that colours it."""

    text: str
    classes: str


def is_platform_admin(identity: Identity) -> bool:
    """Tells whether somebody looks after the installation."""
    return identity.is_platform and identity.role is Role.ADMIN


def admin_tabs(identity: Identity) -> list[Tab]:
    """Returns the pages of administration that a key may open."""
    tabs = [Tab("Keys", KEYS), Tab("Audit log", AUDIT)] if role_covers(identity.role, Role.ADMIN) else []
    tabs.append(Tab("Webhooks", WEBHOOKS))
    if is_platform_admin(identity):
        tabs.append(Tab("Projects", PROJECTS))
    return tabs


def admins_only(identity: Identity) -> str | None:
    """Returns why a key sees nothing of what only admins see; None where it does."""
    if role_covers(identity.role, Role.ADMIN):
        return None
    return f"Only an admin of the project sees this. Your key is a {identity.role}'s."


def platform_admins_only(identity: Identity) -> str | None:
    """Returns why a key sees nothing of what is about the whole installation; None where it does."""
    if is_platform_admin(identity):
        return None
    return "Only an admin of the platform project sees this: the project that the installation was made with."


def ahead_text(moment: datetime, now: datetime) -> str:
    """Returns how far ahead a moment is, or how long ago it was: ``in 3 d 4 h``, ``2 min ago``."""
    seconds = (moment - now).total_seconds()
    return words.ago_text(moment, now) if seconds <= 0 else f"in {words.duration_text(seconds)}"


def key_state(key: ApiKey, now: datetime) -> State:
    """Returns whether a key works."""
    if key.revoked_at is not None:
        return State("revoked", "status failed")
    if key.expires_at is not None and key.expires_at <= now:
        return State("expired", "status failed")
    if key.old_secret_until is not None and key.old_secret_until > now:
        return State("rotated, both secrets work", "status waiting")
    return State("works", "status succeeded")


def expiry_text(key: ApiKey, now: datetime) -> str:
    """Returns when a key expires, or did."""
    if key.expires_at is None:
        return "never"
    return ahead_text(key.expires_at, now)


def limits_text(limits: KeyLimits) -> str:
    """Returns what a key may ask of the data plane."""
    parts = [
        "" if limits.requests_per_minute is None else f"{limits.requests_per_minute:,} requests/min",
        "" if limits.tokens_per_minute is None else f"{limits.tokens_per_minute:,} tokens/min",
    ]
    return ", ".join(part for part in parts if part) or "none"


def used_text(moment: datetime | None, now: datetime) -> str:
    """Returns when something was used last."""
    return "never" if moment is None else words.ago_text(moment, now)


def project_limits_text(limits: ProjectLimits) -> str:
    """Returns what a project may use: ``share 2 · 100 queued · 8 running``."""
    queued = "any number queued" if limits.max_queued is None else f"{limits.max_queued:,} queued"
    running = "any number running" if limits.max_running is None else f"{limits.max_running:,} running"
    return f"share {limits.share:g} · {queued} · {running}"


def project_state(project: Project) -> State:
    """Returns whether a project takes jobs."""
    if project.archived_at is not None:
        return State("archived", "status")
    return State("platform", "status running") if project.is_platform else State("active", "status succeeded")


def whole_number(text: str, name: str) -> int | None:
    """Returns a count that somebody entered, None for nothing; raises NotDone for anything else."""
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= 12):
        raise NotDone(f"{name} is a whole number, or nothing where there is no bound: {text[:40]!r} is neither.")
    return int(text)


def number(text: str, name: str) -> float:
    """Returns a number that somebody entered; raises NotDone for anything else."""
    try:
        return float(text)
    except ValueError:
        raise NotDone(f"{name} is a number: {text[:40]!r} is none.") from None


def moment(text: str, name: str) -> datetime | None:
    """Returns a moment in UTC that somebody entered or an address names, None for nothing; raises NotDone for anything else."""
    if not text:
        return None
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise NotDone(f"{name} is a date with a time of day, such as 2026-11-23T12:00: {text[:40]!r} is none.") from None
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def entered_duration_s(text: str, name: str) -> int:
    """Returns seconds of a time that somebody entered: 90, 90s, 30m, 12h or 7d; nothing is 0. Raises NotDone for anything else."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    given = text.strip().lower() or "0"
    digits, unit = (given[:-1], given[-1]) if given[-1] in units else (given, "s")
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 9):
        raise NotDone(f"{name} is a time such as 90s, 30m, 12h or 7d: {text[:40]!r} is none.")
    return int(digits) * units[unit]
