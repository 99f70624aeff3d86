"""What is wrong with a dataset, gathered while it streams: the first places, each with its line, and how many more there are."""

from __future__ import annotations

from quantry_core.errors import FieldProblem, InvalidInput

MAX_PROBLEMS = 100


class Problems:
    """The first ``MAX_PROBLEMS`` problems of one dataset."""

    def __init__(self) -> None:
        self._found: list[FieldProblem] = []
        self._num_more = 0

    def add(self, line: int, sentence: str) -> None:
        """Notes what is wrong with a line, counted from 1; beyond the first ones it is only counted."""
        if len(self._found) == MAX_PROBLEMS:
            self._num_more += 1
        else:
            self._found.append(FieldProblem(field=f"line {line}", message=sentence))

    def check(self) -> None:
        """Raises InvalidInput if anything was noted."""
        if not self._found:
            return
        detail = self._found[0].message
        if self._num_more:
            detail += f"; there are {len(self._found) + self._num_more} problems in all: {MAX_PROBLEMS} in errors, {self._num_more} more"
        elif len(self._found) > 1:
            detail += f"; there are {len(self._found)} problems in all, see errors"
        raise InvalidInput(detail, errors=[*self._found])
