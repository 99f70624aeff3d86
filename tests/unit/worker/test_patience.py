from __future__ import annotations

import pytest

from quantry_core.errors import SealRefused, Unavailable
from quantry_worker.guard import Guard, StopReason
from quantry_worker.patience import Patience

AWAY = Unavailable("away")


class World:
    def __init__(self) -> None:
        self.now = 0.0
        self.guard = Guard(lease_s=10_000, since=0, is_draining=lambda: False, clock=lambda: self.now)
        self.patience = Patience(120, self.guard, lambda: self.now)


@pytest.fixture
def world() -> World:
    return World()


def test_it_counts_from_the_first_failure(world: World) -> None:
    world.now = 3000  # a seal that worked for so long before its connection broke
    assert world.patience(AWAY)
    world.now += 119
    assert world.patience(AWAY)
    world.now += 2
    assert not world.patience(AWAY)


def test_a_refusal_is_not_tried_again(world: World) -> None:
    assert not world.patience(SealRefused("other bytes"))
    assert not world.patience(ValueError("ours"))


@pytest.mark.parametrize("reason", StopReason)
def test_nothing_is_tried_again_once_the_attempt_must_end(world: World, reason: StopReason) -> None:
    world.guard.mark(reason)
    assert not world.patience(AWAY)
