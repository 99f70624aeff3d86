"""What is wrong with a dataset, gathered while it streams: the first few places, each with its line."""

from __future__ import annotations

from quantry_core.errors import FieldProblem, InvalidInput

MAX_PROBLEMS = 10


class Problems:
    """The first ``MAX_PROBLEMS`` problems of one dataset."""

    def __init__(self) -> None:
        self._found: list[FieldProblem] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, line: int, sentence: str) -> None:
        """Notes what is wrong with a line, counted from 1; raises InvalidInput with all of them once there are many."""
        self._found.append(FieldProblem(field=f"line {line}", message=sentence))
        if len(self._found) == MAX_PROBLEMS:
            raise self._refusal(f"reading stopped at the first {MAX_PROBLEMS} problems")

    def check(self) -> None:
        """Raises InvalidInput if anything was noted."""
        if self._found:
            raise self._refusal(f"there are {len(self._found)} problems in all" if len(self._found) > 1 else "")

    def _refusal(self, ending: str) -> InvalidInput:
        detail = self._found[0].message + (f"; {ending}, see errors" if ending else "")
        return InvalidInput(detail, errors=[*self._found])
