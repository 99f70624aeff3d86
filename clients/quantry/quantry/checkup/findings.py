"""What a look at one thing found, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"
    """It works, or will not for long."""
    FAIL = "fail"
    """Something does not work."""


_RANK = {Level.OK: 0, Level.WARN: 1, Level.FAIL: 2}


class Finding(BaseModel):
    """One line of a report."""

    model_config = ConfigDict(frozen=True)

    area: str = Field(description="machine, stack, server, or work.")
    name: str = Field(description="What was looked at.")
    level: Level
    message: str = Field(description="What was found.")
    action: str | None = Field(default=None, description="What to do about it; None where nothing is to be done.")


class Report(BaseModel):
    """All that was found."""

    model_config = ConfigDict(frozen=True)

    object: Literal["doctor.report"] = "doctor.report"
    level: Level = Field(description="The worst of all.")
    checks: list[Finding]


@dataclass(frozen=True)
class Check:
    """One look. ``look`` returns lines about it; what it raises becomes a line too."""

    area: str
    name: str
    look: Callable[[], Sequence[Finding]]


@dataclass(frozen=True)
class Teller:
    """Writes the lines of one check."""

    area: str
    name: str

    def ok(self, message: str) -> Finding:
        """Returns a line that all is well."""
        return Finding(area=self.area, name=self.name, level=Level.OK, message=message)

    def warn(self, message: str, action: str) -> Finding:
        """Returns a line of what works, or will not for long."""
        return Finding(area=self.area, name=self.name, level=Level.WARN, message=message, action=action)

    def fail(self, message: str, action: str) -> Finding:
        """Returns a line of what does not work."""
        return Finding(area=self.area, name=self.name, level=Level.FAIL, message=message, action=action)


def report_of(checks: Iterable[Check]) -> Report:
    """Looks at everything and returns what was found; a check that breaks is a line of its own, and the others go on."""
    found: list[Finding] = []
    for check in checks:
        try:
            found.extend(check.look())
        except Exception as error:  # Whatever it is, the doctor tells it and goes on.
            words = f"it could not be looked at: {error or type(error).__name__}"
            found.append(Finding(area=check.area, name=check.name, level=Level.WARN, message=words))
    worst = max((finding.level for finding in found), key=_RANK.__getitem__, default=Level.OK)
    return Report(level=worst, checks=found)
