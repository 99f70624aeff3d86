from __future__ import annotations

import pytest

from quantry_core.jobs import Progress
from quantry_worker.progress import WINDOW_S, Pace
from quantry_worker.protocol import ChildProgress


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.pace = Pace(lambda: self.now)

    def after(self, seconds: float, done: int | None, fraction: float = 0.5, phase: str = "work", total: int = 100) -> Progress:
        self.now += seconds
        unit = "" if done is None else "layers"
        return self.pace.progress(
            ChildProgress(phase=phase, fraction=fraction, done=done, total=None if done is None else total, unit=unit)
        )


@pytest.fixture
def world() -> World:
    return World()


def test_a_rate_is_that_of_the_last_seconds(world: World) -> None:
    assert world.after(1, 0).rate_per_s is None
    assert world.after(10, 10).rate_per_s == 1.0
    for done in range(12, 12 + 2 * int(WINDOW_S) + 1, 2):
        last = world.after(1, done)
    assert last.rate_per_s == 2.0


def test_of_slow_units_the_last_two_reports_count(world: World) -> None:
    world.after(1, 0)
    world.after(100, 1)
    assert world.after(200, 2).rate_per_s == 0.005


@pytest.mark.parametrize(("phase", "total", "done"), [("next", 100, 3), ("work", 7, 3), ("work", 100, 1)])
def test_other_units_begin_anew(world: World, phase: str, total: int, done: int) -> None:
    world.after(1, 1)
    world.after(1, 3)
    assert world.after(1, done, phase=phase, total=total).rate_per_s is None


def test_what_remains_follows_from_fraction_and_time(world: World) -> None:
    assert world.after(0, None, 0.0).remaining_s is None
    assert world.after(0.5, None, 0.4).remaining_s is None
    assert world.after(9.5, None, 0.001).remaining_s is None
    assert world.after(0, None, 0.25).remaining_s == 30.0
    assert world.after(10, None, 1.0).remaining_s == 0.0


def test_what_came_before_the_first_report_does_not_count(world: World) -> None:
    assert world.after(600, None, 0.1).remaining_s is None
    assert world.after(10, None, 0.35).remaining_s == 26.0


def test_what_is_not_counted_has_no_rate(world: World) -> None:
    progress = world.after(1, None)
    assert (progress.done, progress.total, progress.unit, progress.rate_per_s) == (None, None, "", None)
