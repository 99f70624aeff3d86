"""Labels of a job, and the selectors that find jobs by them. Syntax as Kubernetes has it for equality-based selectors."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator

from quantry_core.errors import InvalidInput

MAX_LABELS = 32
MAX_METADATA_BYTES = 16 * 1024
MAX_METADATA_DEPTH = 64
"""Objects and lists inside each other. Deeper ones cannot be written out again: pydantic stops at 255."""
MAX_REQUIREMENTS = 16

_KEY = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")


def check_labels(labels: dict[str, str]) -> dict[str, str]:
    """Returns ``labels`` unchanged; raises ValueError naming the key or value that is not allowed."""
    if len(labels) > MAX_LABELS:
        raise ValueError(f"there are {len(labels)} labels, at most {MAX_LABELS} are kept")
    for key, value in labels.items():
        if _KEY.fullmatch(key) is None:
            raise ValueError(f"{key!r} cannot be a label's key: 1 to 63 of letters, digits and ._-/, a letter or digit at both ends")
        if _VALUE.fullmatch(value) is None:
            raise ValueError(
                f"{value!r} cannot be the value of label {key!r}: up to 63 of letters, digits and ._-, a letter or digit at both ends"
            )
    return labels


def check_metadata(metadata: dict[str, Any]) -> dict[str, Any]:
    """Returns ``metadata`` unchanged; raises ValueError if it is larger than MAX_METADATA_BYTES as JSON, or deeper than
    MAX_METADATA_DEPTH, or holds a NUL character: the database would keep something else."""
    if _is_deeper(metadata, MAX_METADATA_DEPTH):
        raise ValueError(f"the metadata has objects or lists more than {MAX_METADATA_DEPTH} deep inside each other")
    text = json.dumps(metadata)
    # A backslash of its own is written as two.
    if "\\u0000" in text.replace("\\\\", ""):
        raise ValueError("the metadata holds a NUL character")
    size_bytes = len(text.encode())
    if size_bytes > MAX_METADATA_BYTES:
        raise ValueError(f"the metadata has {size_bytes} bytes as JSON, at most {MAX_METADATA_BYTES} are kept")
    return metadata


def _is_deeper(value: Any, depth: int) -> bool:
    """Tells whether objects and lists are nested more than ``depth`` deep; looks no deeper than that."""
    if not isinstance(value, dict | list):
        return False
    items = value.values() if isinstance(value, dict) else value
    return depth == 0 or any(_is_deeper(item, depth - 1) for item in items)


Labels = Annotated[dict[str, str], AfterValidator(check_labels)]
"""Short strings to find things by."""

Metadata = Annotated[dict[str, Any], AfterValidator(check_metadata)]
"""Anything the submitter wants kept with a job; Quantry does not look at it."""


class Operator(StrEnum):
    EQUAL = "="
    NOT_EQUAL = "!="
    PRESENT = "present"
    ABSENT = "absent"


class Requirement(NamedTuple):
    """One condition on a thing's labels; ``value`` is empty for PRESENT and ABSENT."""

    key: str
    operator: Operator
    value: str = ""


def parse_selector(text: str) -> list[Requirement]:
    """Returns the conditions of ``team=search,stage!=test,nightly,!draft``; all must hold. Raises InvalidInput naming the bad part."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) > MAX_REQUIREMENTS:
        raise InvalidInput(f"a label selector has at most {MAX_REQUIREMENTS} conditions, this one has {len(parts)}")
    return [_parse_requirement(part) for part in parts]


def _parse_requirement(part: str) -> Requirement:
    if part.startswith("!") and "=" not in part:
        requirement = Requirement(part[1:].strip(), Operator.ABSENT)
    elif "!=" in part:
        key, _, value = part.partition("!=")
        requirement = Requirement(key.strip(), Operator.NOT_EQUAL, value.strip())
    elif "=" in part:
        key, _, value = part.partition("=")
        requirement = Requirement(key.strip(), Operator.EQUAL, value.removeprefix("=").strip())
    else:
        requirement = Requirement(part, Operator.PRESENT)
    try:
        check_labels({requirement.key: requirement.value})
    except ValueError as error:
        raise InvalidInput(f"{part!r} is no label condition (key=value, key!=value, key or !key): {error}") from error
    return requirement
