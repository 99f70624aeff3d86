"""What a scenario leaves: what was done, its figures, and the sentences that say what was not as it must be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Result:
    """One scenario's outcome. It passed when it was run and nothing is wrong."""

    number: int
    name: str
    seed: int
    done: str = ""
    """What was done to the platform, in one sentence."""

    figures: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    not_run: str | None = None
    """Why the scenario could not be run on this machine."""

    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return self.not_run is None and not self.problems

    def expect(self, is_so: bool, otherwise: str) -> None:
        """Notes a problem unless it is so."""
        if not is_so:
            self.problems.append(otherwise)

    def line(self) -> str:
        """Returns the row of the table."""
        word = "NOT RUN" if self.not_run else "passed" if self.passed else "FAILED"
        what = self.not_run or ", ".join(f"{name} {_short(value)}" for name, value in self.figures.items())
        row = f"{self.number:>2}  {self.name:<18} {word:<8} {self.seconds:6.1f} s  seed {self.seed:<6} {what}"
        return "\n".join([row, *(f"      ! {problem}" for problem in self.problems)])


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_short(one)}" for name, one in value.items()) + "}"
    return str(value)
