"""Takes out of captured text what names a person or opens a door: e-mail addresses, phone and card numbers, addresses of hosts, secrets.

Each find is replaced by a tag, so that a sentence keeps its shape. It errs on the side of replacing: what looks like a phone number
and is an order's goes too. Names of people and postal addresses have no such form and are not found.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from ipaddress import ip_address
from typing import NamedTuple


class ScrubKind(StrEnum):
    SECRET = "secret"
    EMAIL = "email"
    CARD = "card"
    IP = "ip"
    PHONE = "phone"


class Scrubbed(NamedTuple):
    """A text without what was found, and how often each kind was."""

    text: str
    counts: Counter[ScrubKind]


class _Finder(NamedTuple):
    """What a kind looks like; ``holds`` looks again at what matched."""

    kind: ScrubKind
    pattern: re.Pattern[str]
    holds: Callable[[str], bool]


MIN_PHONE_DIGITS, MAX_PHONE_DIGITS = 9, 15
"""Of an international number: E.164 has at most 15."""
_MIN_SECRET_CHARS = 20


def scrub(text: str) -> Scrubbed:
    """Returns the text with every find replaced by its tag, such as ``<email>``. What was scrubbed stays as it is."""
    counts: Counter[ScrubKind] = Counter()
    for finder in _FINDERS:

        def replaced(match: re.Match[str], finder: _Finder = finder) -> str:
            found = match.group("found")
            if not finder.holds(found):
                return match.group()
            counts[finder.kind] += 1
            begin, end = match.span("found")
            return f"{match.group()[: begin - match.start()]}<{finder.kind}>{match.group()[end - match.start() :]}"

        text = finder.pattern.sub(replaced, text)
    return Scrubbed(text, counts)


def _always(_found: str) -> bool:
    return True


def _is_card(found: str) -> bool:
    """Tells whether a number has the check digit of ISO/IEC 7812, by Luhn's formula."""
    total = 0
    for place, digit in enumerate(int(char) for char in reversed(found) if char.isdigit()):
        doubled = digit * 2 if place % 2 else digit
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def _is_address(found: str) -> bool:
    """Tells whether it is an address of IPv4 or IPv6, not a time of day or a version's number."""
    try:
        ip_address(found)
    except ValueError:
        return False
    return ":" not in found or found.count(":") > 1


def _is_phone(found: str) -> bool:
    """Tells whether it has as many digits as a number that can be called, and is no date, no fraction and no plain count."""
    digits = sum(char.isdigit() for char in found)
    is_written_as_one = found.startswith(("+", "00")) or any(char in " ()-./" for char in found)
    return MIN_PHONE_DIGITS <= digits <= MAX_PHONE_DIGITS and is_written_as_one and _NO_PHONE.match(found) is None


def _looks_random(found: str) -> bool:
    """Tells whether a long word mixes digits with letters of both cases, or is hexadecimal: no word of a language does."""
    is_hex = all(char in "0123456789abcdefABCDEF-" for char in found)
    has_digit, has_letter = any(char.isdigit() for char in found), any(char.isalpha() for char in found)
    is_mixed = found != found.lower() and found != found.upper()
    return has_digit and has_letter and (is_mixed or is_hex)


_NO_PHONE = re.compile(r"(?:19|20)\d\d[-./ ][01]?\d[-./ ][0-3]?\d|\d+[./]\d+$")
_FINDERS = (
    _Finder(
        ScrubKind.SECRET,
        re.compile(r"(?P<found>-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[A-Za-z0-9+/=\s:,-]{0,20000}?-----END [A-Z ]{0,40}PRIVATE KEY-----)"),
        _always,
    ),
    _Finder(
        # Keys whose makers gave them a form, and JSON Web Tokens.
        ScrubKind.SECRET,
        re.compile(
            r"\b(?P<found>(?:qtr_|sk-|pk_live_|sk_live_|rk_live_|gh[pousr]_|github_pat_|glpat-|hf_|npm_|xox[abprs]-|AIza|ya29\.)"
            r"[A-Za-z0-9_.\-]{10,400}|(?:AKIA|ASIA)[0-9A-Z]{16}|eyJ[A-Za-z0-9_\-]{8,4000}\.[A-Za-z0-9_\-]{8,8000}(?:\.[A-Za-z0-9_\-]{1,4000})?)"
        ),
        _always,
    ),
    _Finder(
        # password=..., DB_PASSWORD=..., "dbPassword": "...", "api_key": "...", Authorization: Bearer ...
        ScrubKind.SECRET,
        re.compile(
            r"(?i)(?:(?<![a-z0-9])|(?-i:(?<=[a-z])(?=[A-Z])))"
            r"(?:pass(?:word|wd|phrase)?|pwd|secret(?:[_-]?key)?|token|(?:api|access|private)[_-]?key|client[_-]?secret|authorization)\b"
            r"[\"']?\s{0,3}[:=]\s{0,3}[\"']?(?:(?:bearer|basic)\s{1,3})?(?P<found>[^\s\"'<>,;]{4,400})"
        ),
        _always,
    ),
    # Of a URL: postgres://user:...@host
    _Finder(ScrubKind.SECRET, re.compile(r"://[^\s:/?#@<>\"']{0,100}:(?P<found>[^\s/@<>\"']{1,200})@"), _always),
    _Finder(ScrubKind.SECRET, re.compile(r"(?i)\bbearer\s{1,3}(?P<found>[A-Za-z0-9_.~+/=\-]{16,2000})"), _always),
    _Finder(
        ScrubKind.EMAIL,
        re.compile(
            r"(?<![\w.+\-])(?P<found>[\w.+%\-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24})(?!\w)"
        ),
        _always,
    ),
    _Finder(ScrubKind.CARD, re.compile(r"(?<![\d.\-])(?P<found>\d(?:[ \-]?\d){12,18})(?![\d\-])"), _is_card),
    _Finder(ScrubKind.IP, re.compile(r"(?<![\w.:])(?P<found>\d{1,3}(?:\.\d{1,3}){3})(?![\w]|\.\d)"), _is_address),
    _Finder(ScrubKind.IP, re.compile(r"(?<![\w.:])(?P<found>[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7})(?![\w:])"), _is_address),
    _Finder(ScrubKind.PHONE, re.compile(r"(?<![\w.,\-])(?P<found>\+?\(?\d(?:[ ()\-./]{0,2}\d){8,14})(?![\w]|[.,]\d)"), _is_phone),
    _Finder(
        ScrubKind.SECRET,
        re.compile(rf"(?<![\w/.\-])(?P<found>[A-Za-z0-9_\-+=]{{{_MIN_SECRET_CHARS},2000}})(?![\w\-])"),
        _looks_random,
    ),
)
"""In this order: a card's number would else be found as a phone's, and a key's digits as either."""
