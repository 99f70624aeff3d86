"""Versions of the libraries that touch the weights."""

from __future__ import annotations

import platform
from importlib.metadata import version


def toolchain(*distributions: str) -> dict[str, str]:
    """Returns the version of Python and of each named distribution; raises PackageNotFoundError by name if one is missing."""
    return {"python": platform.python_version()} | {name: version(name) for name in distributions}
