"""Values of options that are more than a word: durations, sizes, moments, labels and metadata. Each says what it wanted."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

import typer

from quantry_core.errors import InvalidInput
from quantry_core.jobs import check_labels, parse_bytes, parse_selector
from quantry_core.tags import check_tags

T = TypeVar("T")

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)d)?(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
_UNITS_S = (86400, 3600, 60, 1)


def duration_s(text: str) -> int:
    """Returns whole seconds from ``90``, ``90s``, ``1h30m`` or ``1.5d``; a usage error for anything else and for less than one."""
    compact = text.replace(" ", "")
    match = _DURATION.fullmatch(compact)
    if compact.isdecimal():
        seconds = float(compact)
    elif match is not None:
        seconds = sum(float(number) * unit for number, unit in zip(match.groups(), _UNITS_S, strict=True) if number)
    else:
        seconds = 0.0
    if seconds < 1:
        raise typer.BadParameter(f"{text!r} is no duration: at least a second, as in 90s, 45m, 2h, 1h30m or 1d")
    return round(seconds)


def duration_or_none_s(text: str) -> int:
    """Returns whole seconds as ``duration_s``, and 0 for ``0``."""
    return 0 if text.strip() in {"0", "0s"} else duration_s(text)


def size_bytes(text: str) -> int:
    """Returns bytes from ``16GiB`` or ``1048576``; a usage error for anything else."""
    return _checked(parse_bytes, text)


def moment(text: str) -> datetime:
    """Returns a moment with a time zone from ISO 8601; this machine's zone where none is given. A usage error for anything else."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is no time: ISO 8601, as in 2026-12-24T18:00 or 2026-12-24T17:00Z") from None


def selector(text: str) -> str:
    """Returns a label selector unchanged; a usage error that names the part which is wrong."""
    _checked(parse_selector, text)
    return text


def labels(items: Iterable[str], option: str = "--label") -> dict[str, str]:
    """Returns labels from ``key=value`` words; a usage error for what cannot be one and for a key that stands twice."""
    return _checked(check_labels, pairs(items, option, "key=value, as in team=search"))


def tags(items: Iterable[str]) -> dict[str, str]:
    """Returns tags of a model from ``key=value`` words: texts of any kind. A usage error for what cannot be one."""
    return _checked(check_tags, pairs(items, "KEY=VALUE", "key=value, as in stage=test or about='Reads verse.'"))


def metadata(items: Iterable[str]) -> dict[str, Any]:
    """Returns metadata from ``key=json`` words; what is no JSON is taken as text. A usage error for a key that stands twice."""
    return {key: _json_or_text(value) for key, value in pairs(items, "--metadata", 'key=json, as in ticket=4711 or owner="Ann"').items()}


def pairs(items: Iterable[str], option: str, form: str) -> dict[str, str]:
    """Returns ``key=value`` words as a dict; a usage error that names the option for another form and for a key that stands twice."""
    pairs: dict[str, str] = {}
    for item in items:
        key, has_value, value = item.partition("=")
        if not key or not has_value:
            raise typer.BadParameter(f"{option} {item!r}: {form}")
        if key in pairs:
            raise typer.BadParameter(f"{option}: {key!r} is given twice")
        pairs[key] = value
    return pairs


def _json_or_text(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value


def _checked(parse: Callable[[Any], T], value: object) -> T:
    try:
        return parse(value)
    except (ValueError, InvalidInput) as error:
        raise typer.BadParameter(str(error)) from None
