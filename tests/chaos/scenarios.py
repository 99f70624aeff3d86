"""The sixteen scenarios, by number."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

from chaos import (
    bad_jobs,
    control_away,
    killed_controller,
    killed_processes,
    killed_replicas,
    killed_schedulers,
    killed_stages,
    killed_training,
    late_writes,
    lost_wakes,
    postgres_away,
    redis_away,
    repeated_wakes,
    rolled_back,
    same_request,
    wrong_clocks,
)
from chaos.platform import Chaos
from chaos.result import Result


class Scale(StrEnum):
    """How often each thing is done: as promised, or a little, for the tests."""

    FULL = "full"
    SHORT = "short"


class Scenario(NamedTuple):
    """A scenario and its counts."""

    name: str
    run: Callable[[Chaos, int, Any], Result]
    counts: dict[Scale, Any]


def _scenario(name: str, run: Callable[[Chaos, int, Any], Result], *, full: object, short: object) -> Scenario:
    return Scenario(name, run, {Scale.FULL: full, Scale.SHORT: short})


SCENARIOS: dict[int, Scenario] = {
    1: _scenario(killed_processes.NAME, killed_processes.run, full=killed_processes.FULL, short=killed_processes.SHORT),
    2: _scenario(late_writes.NAME, late_writes.run, full=late_writes.FULL, short=late_writes.SHORT),
    3: _scenario(redis_away.NAME, redis_away.run, full=redis_away.FULL, short=redis_away.SHORT),
    4: _scenario(lost_wakes.NAME, lost_wakes.run, full=lost_wakes.FULL, short=lost_wakes.SHORT),
    5: _scenario(repeated_wakes.NAME, repeated_wakes.run, full=repeated_wakes.FULL, short=repeated_wakes.SHORT),
    6: _scenario(postgres_away.NAME, postgres_away.run, full=postgres_away.FULL, short=postgres_away.SHORT),
    7: _scenario(bad_jobs.NAME, bad_jobs.run, full=bad_jobs.FULL, short=bad_jobs.SHORT),
    8: _scenario(wrong_clocks.NAME, wrong_clocks.run, full=wrong_clocks.FULL, short=wrong_clocks.SHORT),
    9: _scenario(killed_schedulers.NAME, killed_schedulers.run, full=killed_schedulers.FULL, short=killed_schedulers.SHORT),
    10: _scenario(same_request.NAME, same_request.run, full=same_request.FULL, short=same_request.SHORT),
    11: _scenario(killed_stages.NAME, killed_stages.run, full=killed_stages.FULL, short=killed_stages.SHORT),
    12: _scenario(killed_training.NAME, killed_training.run, full=killed_training.FULL, short=killed_training.SHORT),
    13: _scenario(rolled_back.NAME, rolled_back.run, full=rolled_back.FULL, short=rolled_back.SHORT),
    14: _scenario(killed_replicas.NAME, killed_replicas.run, full=killed_replicas.FULL, short=killed_replicas.SHORT),
    15: _scenario(killed_controller.NAME, killed_controller.run, full=killed_controller.FULL, short=killed_controller.SHORT),
    16: _scenario(control_away.NAME, control_away.run, full=control_away.FULL, short=control_away.SHORT),
}


def play(chaos: Chaos, number: int, seed: int, scale: Scale) -> Result:
    """Runs one scenario once the stack is idle; an error of the scenario itself is a problem of its result."""
    scenario = SCENARIOS[number]
    began = time.monotonic()
    try:
        result = scenario.run(chaos, seed, scenario.counts[scale])
    except Exception as error:  # the next scenario is run all the same
        result = Result(number, scenario.name, seed, problems=[f"it broke off: {type(error).__name__}: {error}"])
    result.seconds = time.monotonic() - began
    return result
