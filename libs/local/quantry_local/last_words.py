"""The line of a log that best says why its writer failed."""

from __future__ import annotations

import json
from pathlib import Path

TAIL_BYTES = 64 * 1024
MAX_CHARS = 400
NOTHING = "it wrote nothing"


def last_words(log: Path) -> str:
    """Returns the last warning or error of a log, else its last line, cut to 400 characters.

    Services write one JSON object per line; everything else that ends up in a log (a traceback, a server's own words)
    is taken for a trouble as it stands.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return NOTHING
    troubles = [line for line in lines if _is_trouble(line)]
    chosen = (troubles or lines or [NOTHING])[-1]
    return _in_words(chosen)[:MAX_CHARS]


def _is_trouble(line: str) -> bool:
    entry = _entry(line)
    return entry is None or entry.get("level") in {"warning", "error", "critical"}


def _in_words(line: str) -> str:
    entry = _entry(line)
    if entry is None:
        return line.strip()
    exception = str(entry.get("exception", "")).strip().splitlines()[-1:]
    reasons = [str(entry[name]) for name in ("problem", "detail", "error") if name in entry] or exception
    return ": ".join([str(entry.get("event", "")).strip(), *reasons[:1]])


def _entry(line: str) -> dict[str, object] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None
