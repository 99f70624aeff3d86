"""How long a request to a part of the platform that is away is tried again."""

from __future__ import annotations

from collections.abc import Callable

from quantry_core.errors import Unavailable
from quantry_worker.guard import Permission, worker_clock


class Patience:
    """Decides for stamina whether an error is worth another try: for ``patience_s`` seconds from the first failure.

    From the failure, not from the call as stamina's own timeout: a seal of a large checkpoint may work for minutes before
    its connection breaks for a moment. And never once the attempt must end.
    """

    def __init__(self, patience_s: float, guard: Permission, clock: Callable[[], float] = worker_clock) -> None:
        self._patience_s = patience_s
        self._guard = guard
        self._clock = clock
        self._gives_up_at: float | None = None

    def __call__(self, error: Exception) -> bool:
        """Tells whether to try again after this error."""
        if not isinstance(error, Unavailable) or self._guard.reason() is not None:
            return False
        now = self._clock()
        if self._gives_up_at is None:
            self._gives_up_at = now + self._patience_s
        return now < self._gives_up_at
