"""Which entries of the audit log the page shows, what it says of them, and the files that they are exported to."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from quantry_core.audit import AuditEntry, AuditFilter, AuditVerification
from quantry_core.ids import IdPrefix, is_id
from quantry_dashboard import words
from quantry_dashboard.administration import AUDIT, moment
from quantry_dashboard.asking import NotDone
from quantry_dashboard.deployments import ROLLOUTS

EXPORT = f"{AUDIT}/export"
MAX_EXPORTED = 50_000
"""Entries of one file; beyond them, a later ``until`` gets the rest."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""Spreadsheets take a cell that begins so for a formula; some take the full-width forms for the others."""
_INVISIBLE = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
"""Categories of characters that cannot be seen: controls, marks of direction and width, ends of lines that are none elsewhere."""
COLUMNS = (
    "seq",
    "created_at",
    "action",
    "noun",
    "noun_id",
    "key_id",
    "role",
    "data",
    "id",
    "previous_hash",
    "hash",
)
"""Of the CSV file."""

_NAMES = ("key_id", "action", "noun", "noun_id", "since", "until")
_ADDRESSES: dict[str, tuple[IdPrefix, str]] = {
    "job": (IdPrefix.JOB, "/jobs/"),
    "pipeline": (IdPrefix.PIPELINE, "/pipelines/"),
    "schedule": (IdPrefix.SCHEDULE, "/schedules/"),
    "version": (IdPrefix.VERSION, "/versions/"),
    "dataset": (IdPrefix.DATASET, "/datasets/"),
    "webhook": (IdPrefix.WEBHOOK, "/admin/webhooks/"),
    "rollout": (IdPrefix.ROLLOUT, f"{ROLLOUTS}/"),
}


@dataclass(frozen=True)
class AuditView:
    """One view of the log. ``given`` is what the address says, by name."""

    which: AuditFilter
    given: Mapping[str, str]
    after: str | None = None

    @property
    def is_narrowed(self) -> bool:
        """Whether anything but the page is asked about."""
        return bool(self.given)

    def url(self, path: str = AUDIT, **changed: str | None) -> str:
        """Returns the address of this view with other values; the view then begins with its first page."""
        values = {**self.given, **({"after": self.after} if self.after and not changed and path == AUDIT else {})}
        values |= {name: (value or "").strip() for name, value in changed.items()}
        query = urlencode({name: value for name, value in values.items() if value})
        return f"{path}?{query}" if query else path


def parse(query: Mapping[str, str]) -> tuple[AuditView, list[str]]:
    """Returns the view an address asks for, and a sentence for each part that cannot be; those are left out."""
    given = {name: query[name].strip() for name in _NAMES if query.get(name, "").strip()}
    problems: list[str] = []
    asked: dict[str, Any] = {}
    for name, value in list(given.items()):
        if name in {"since", "until"}:
            try:
                asked[name] = moment(value, name.capitalize())
            except NotDone as trouble:
                problems.append(str(trouble))
                del given[name]
        elif len(value) > 200 or not value.isprintable():
            problems.append(f"{name.replace('_', ' ').capitalize()} is at most 200 printable characters.")
            del given[name]
        else:
            asked[name] = value
    return AuditView(AuditFilter(**asked), given, query.get("after", "").strip() or None), problems


def who_text(entry: AuditEntry) -> str:
    """Returns who did something: a key and its role, or the platform itself."""
    if entry.key_id is None:
        return "the platform"
    return f"{words.short_id(entry.key_id)} ({entry.role})" if entry.role else words.short_id(entry.key_id)


def noun_address(entry: AuditEntry) -> str | None:
    """Returns where the dashboard shows what an entry is about; None where it does not."""
    prefix, path = _ADDRESSES.get(entry.noun, (None, ""))
    return path + entry.noun_id if prefix is not None and is_id(entry.noun_id, prefix) else None


def data_text(data: Mapping[str, Any]) -> str:
    """Returns what an entry says of the act, in one line: ``name=laptop, role=viewer``."""
    parts = []
    for name, value in data.items():
        said = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        parts.append(f"{name}={said}")
    return ", ".join(parts)


def verification_text(found: AuditVerification) -> str:
    """Returns what a walk along the chain found, for people."""
    cut = "" if found.anchor is None else f" Retention has removed the entries up to {found.anchor.seq}; what is left hangs on their hash."
    if found.is_whole:
        if not found.num_entries:
            return f"The log holds no entry.{cut}"
        return (
            f"The chain is whole: {found.num_entries:,} entries, {found.first_seq:,} to {found.last_seq:,}, each fits the one before." + cut
        )
    if found.broken_at is None:
        return f"The chain does not hold.{cut}"
    return f"The chain breaks at entry {found.broken_at.seq:,}: {found.broken_at.why}. What comes after it proves nothing.{cut}"


def safe_cell(text: str) -> str:
    """Returns a cell of a CSV file that no spreadsheet takes for a formula: what looks like one begins with an apostrophe.

    What cannot be seen is spelled out: it would turn around or hide what stands beside it.
    """
    shown = spelled_out(text)
    begins = shown.lstrip()
    return f"'{shown}" if begins.startswith(FORMULA_STARTS) or begins != shown else shown


def spelled_out(text: str) -> str:
    """Returns a text whose invisible characters are written as JSON escapes; lines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escape(one) if unicodedata.category(one) in _INVISIBLE and one not in "\t\n\r" else one for one in text)


def _escape(character: str) -> str:
    return "".join(f"\\u{int.from_bytes(pair, 'big'):04x}" for pair in _pairs(character.encode("utf-16-be", "surrogatepass")))


def _pairs(encoded: bytes) -> Iterator[bytes]:
    return (encoded[place : place + 2] for place in range(0, len(encoded), 2))


def csv_rows(entries: Sequence[AuditEntry]) -> Iterator[str]:
    """Yields entries as lines of a CSV file (RFC 4180), every cell in quotes."""
    for entry in entries:
        yield _csv_line([_cell_of(getattr(entry, column)) for column in COLUMNS])


def csv_head() -> str:
    """Returns the first line of a CSV file, after the mark by which spreadsheets know UTF-8."""
    return "\ufeff" + _csv_line(list(COLUMNS))


def json_lines(entries: Sequence[AuditEntry], *, is_first: bool) -> Iterator[str]:
    """Yields entries as members of a JSON array, without its brackets; as they are hashed, so that a chain can be checked offline."""
    for number, entry in enumerate(entries):
        # Escapes within its texts: whoever reads it gets the characters themselves.
        yield ("" if is_first and number == 0 else ",\n") + spelled_out(entry.model_dump_json())


def export_name(view: AuditView, now: datetime, extension: str) -> str:
    """Returns what an exported file is called."""
    part = "-part" if view.is_narrowed else ""
    return f"quantry-audit{part}-{now:%Y%m%dT%H%M%SZ}.{extension}"


def _cell_of(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return str(value)


def _csv_line(cells: Sequence[str]) -> str:
    written = io.StringIO()
    csv.writer(written, quoting=csv.QUOTE_ALL).writerow([safe_cell(cell) for cell in cells])
    return written.getvalue()
