"""Windows of traffic that the api has not heard of yet: no count is ever lost, and memory stays bounded."""

from __future__ import annotations

from quantry_core.traffic import TrafficWindow


class Backlog:
    """Keeps windows in the order in which they were cut. Past ``max_windows`` the oldest two of a release become one.

    What that costs is resolution in time of what lies furthest back. Each release keeps one window at least.
    """

    def __init__(self, *, max_windows: int) -> None:
        self._max_windows = max_windows
        self._windows: list[TrafficWindow] = []

    def __len__(self) -> int:
        return len(self._windows)

    def add(self, windows: list[TrafficWindow]) -> None:
        """Keeps windows that were just cut."""
        self._windows.extend(windows)
        while len(self._windows) > self._max_windows and (pair := self._oldest_pair()) is not None:
            first, second = pair
            self._windows[second] = joined(self._windows[first], self._windows[second])
            del self._windows[first]

    def take(self, max_windows: int) -> list[TrafficWindow]:
        """Removes the oldest windows and returns them: one of each release at most, since a report tells of each once."""
        num, releases = 0, set[str]()
        for window in self._windows[:max_windows]:
            if window.release_id in releases:
                break
            releases.add(window.release_id)
            num += 1
        taken, self._windows = self._windows[:num], self._windows[num:]
        return taken

    def _oldest_pair(self) -> tuple[int, int] | None:
        """Returns where the first two windows of one release are; None where each release has one only."""
        seen: dict[str, int] = {}
        for at, window in enumerate(self._windows):
            if window.release_id in seen:
                return seen[window.release_id], at
            seen[window.release_id] = at
        return None


def joined(earlier: TrafficWindow, later: TrafficWindow) -> TrafficWindow:
    """Returns one window of a release for two that follow one another."""
    return TrafficWindow(
        release_id=later.release_id,
        began_at=earlier.began_at,
        ended_at=later.ended_at,
        tally=earlier.tally.merged(later.tally),
    )
