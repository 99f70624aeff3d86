"""The rules for names that people choose and for paths inside a checkpoint. Checked at use, not only at creation."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import AfterValidator

from quantry_core.ids import is_any_id

MAX_NAME_CHARS = 64
MAX_NUMBER_DIGITS = 9
MAX_PATH_CHARS = 255

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_PATH_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]*")


class BadName(ValueError):
    """What was given cannot be a name; the message says why."""


def check_name(name: str) -> str:
    """Returns ``name`` unchanged if it can name a model, dataset, deployment or alias; raises BadName saying why not."""
    if not name:
        raise BadName("a name cannot be empty")
    if len(name) > MAX_NAME_CHARS:
        raise BadName(f"a name has at most {MAX_NAME_CHARS} characters, this one has {len(name)}")
    if ".." in name:
        raise BadName(f"a name cannot contain '..': {name!r}")
    if _NAME.fullmatch(name) is None:
        raise BadName(
            f"a name is made of lower-case letters, digits, '.', '_' and '-', and begins and ends with a letter or digit: {name!r}"
        )
    if is_any_id(name):
        raise BadName(f"a name cannot look like an id, which would be taken for the thing with that id: {name!r}")
    return name


def check_file_path(path: str) -> str:
    """Returns a checkpoint file's relative path unchanged if it is safe to join to a folder; raises ValueError otherwise.

    At most two levels, no part that is empty, hidden, ``.`` or ``..``, no backslash, no control character.
    """
    if not path or len(path) > MAX_PATH_CHARS:
        raise ValueError(f"a file path has 1 to {MAX_PATH_CHARS} characters: {path[:80]!r}")
    parts = path.split("/")
    if len(parts) > 2 or any(_PATH_PART.fullmatch(part) is None for part in parts):
        raise ValueError(f"not a safe file path inside a checkpoint: {path!r}")
    if str(PurePosixPath(path)) != path:
        raise ValueError(f"not a normal file path: {path!r}")
    return path


def is_number(selector: str) -> bool:
    """Tells whether what follows the @ is a version number. Numbers win over aliases, so no alias may look like one."""
    return selector.isascii() and selector.isdigit() and len(selector) <= MAX_NUMBER_DIGITS


def check_alias(alias: str) -> str:
    """Returns ``alias`` unchanged if it can name an alias; raises BadName saying why not."""
    if is_number(check_name(alias)):
        raise BadName(f"an alias cannot be a number, which already means a version: {alias!r}")
    return alias


Name = Annotated[str, AfterValidator(check_name)]
"""A name chosen by a person: 1 to 64 of ``a-z 0-9 . _ -``."""

AliasName = Annotated[str, AfterValidator(check_alias)]
"""A name that is not a number."""

FilePath = Annotated[str, AfterValidator(check_file_path)]
"""A relative path of a file inside a checkpoint."""
