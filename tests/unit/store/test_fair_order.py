"""Turns between projects: a pure rule, checked against what shares promise."""

from __future__ import annotations

from collections import Counter
from functools import partial
from random import Random

import pytest

from factories.store import even_draw
from quantry_store.repositories.claims import Contender, fair_order


def contenders(**projects: tuple[float, int]) -> list[Contender]:
    """Returns projects by name, from share and number of running jobs."""
    return [Contender(name, share, None, num_running) for name, (share, num_running) in projects.items()]


@pytest.mark.parametrize(
    ("projects", "first"),
    [
        ({"a": (1.0, 0), "b": (2.0, 0)}, "b"),
        ({"a": (1.0, 0), "b": (2.0, 2)}, "a"),
        ({"a": (1.0, 3), "b": (2.0, 6)}, "b"),
        ({"a": (1.0, 3), "b": (2.0, 8)}, "a"),
        ({"a": (0.5, 1), "b": (5.0, 18)}, "b"),
    ],
)
def test_least_running_and_one_over_share_is_first(projects: dict[str, tuple[float, int]], first: str) -> None:
    assert fair_order(contenders(**projects), even_draw)[0].project_id == first


def test_idle_project_is_before_a_busy_one_of_the_same_share_whatever_is_drawn() -> None:
    projects = contenders(busy=(3.0, 1), idle=(3.0, 0), busier=(3.0, 2))
    for draw in (0.0, 0.5, 0.999999, 1 - 2**-53):
        assert fair_order(projects, partial(float, draw))[0].project_id == "idle"


def running_over_time(shares: dict[str, float], num_slots: int, num_claims: int, durations: dict[str, int]) -> dict[str, float]:
    """Returns each project's part of all slot time, where every project always has work and jobs last so many claims."""
    rng, slots, held = Random(7), [("", 0)] * num_slots, Counter[str]()
    for now in range(num_claims):
        for slot, (_, until) in enumerate(slots):
            if until <= now:
                running = Counter(name for name, end in slots if end > now)
                chosen = fair_order(contenders(**{name: (share, running[name]) for name, share in shares.items()}), rng.random)[0]
                slots[slot] = (chosen.project_id, now + durations[chosen.project_id])
        held.update(name for name, _ in slots)
    return {name: held[name] / held.total() for name in shares}


@pytest.mark.parametrize(
    ("num_slots", "tolerance"),
    [(1, 0.03), (2, 0.1), (6, 0.06), (30, 0.03)],
)
def test_slots_go_as_shares_say(num_slots: int, tolerance: float) -> None:
    parts = running_over_time({"a": 1.0, "b": 2.0, "c": 3.0}, num_slots, 4000, {"a": 3, "b": 3, "c": 3})
    assert parts == pytest.approx({"a": 1 / 6, "b": 2 / 6, "c": 3 / 6}, abs=tolerance)


def test_long_jobs_do_not_make_a_share_larger() -> None:
    parts = running_over_time({"long": 1.0, "short": 1.0}, 10, 3000, {"long": 40, "short": 2})
    assert parts == pytest.approx({"long": 0.5, "short": 0.5}, abs=0.05)


def test_no_project_starves_beside_one_of_a_much_larger_share() -> None:
    parts = running_over_time({"small": 1.0, "large": 20.0}, 2, 4000, {"small": 2, "large": 2})
    assert 0.02 < parts["small"] < 0.12
