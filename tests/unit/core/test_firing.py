"""What is done with due times: each policy by example, and what holds for all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quantry_core.firing import MAX_HELD, MAX_RUNS_PER_PASS, DueTimes, HeldRun, Plan, Standing, decide
from quantry_core.schedules import MissedPolicy, OverlapPolicy, RunOutcome

START = datetime(2026, 11, 22, tzinfo=UTC)
BUSY = Standing(busy_with="job_1")
FIRED, HELD, SKIPPED, MISSED = RunOutcome.FIRED, RunOutcome.HELD, RunOutcome.SKIPPED, RunOutcome.MISSED


def at(hour: int) -> datetime:
    return START + timedelta(hours=hour)


def due(late: int = 0, on_time: int = 0, *, is_more: bool = False) -> DueTimes:
    """Returns hourly due times: so many late ones, then so many on time."""
    times = [at(hour) for hour in range(late + on_time)]
    return DueTimes(late=times[:late], on_time=times[late:], is_more=is_more)


def outcomes(plan: Plan) -> list[tuple[RunOutcome, int]]:
    """Returns each step with the hour it is about."""
    return [(step.outcome, (step.due_at - START) // timedelta(hours=1)) for step in plan.steps]


def test_nothing_due_is_nothing_to_do() -> None:
    assert decide(OverlapPolicy.QUEUE, MissedPolicy.RUN_ALL, BUSY, DueTimes()) == Plan([], None)


@pytest.mark.parametrize("overlap", OverlapPolicy)
def test_a_free_schedule_fires(overlap: OverlapPolicy) -> None:
    plan = decide(overlap, MissedPolicy.SKIP, Standing(), due(on_time=1))
    assert outcomes(plan) == [(FIRED, 0)]
    assert plan.through == at(0)


def test_skip_names_what_is_not_over() -> None:
    plan = decide(OverlapPolicy.SKIP, MissedPolicy.SKIP, BUSY, due(on_time=2))
    assert outcomes(plan) == [(SKIPPED, 0), (SKIPPED, 1)]
    assert [step.message for step in plan.steps] == ["job_1 was not over"] * 2
    assert plan.through == at(1)


def test_queue_holds_until_the_one_before_is_over() -> None:
    assert outcomes(decide(OverlapPolicy.QUEUE, MissedPolicy.SKIP, BUSY, due(on_time=2))) == [(HELD, 0), (HELD, 1)]


def test_cancel_previous_fires_though_one_runs() -> None:
    assert outcomes(decide(OverlapPolicy.CANCEL_PREVIOUS, MissedPolicy.SKIP, BUSY, due(on_time=1))) == [(FIRED, 0)]


def test_cancel_previous_fires_only_the_last_of_those_due_together() -> None:
    plan = decide(OverlapPolicy.CANCEL_PREVIOUS, MissedPolicy.SKIP, BUSY, due(on_time=3))
    assert outcomes(plan) == [(SKIPPED, 0), (SKIPPED, 1), (FIRED, 2)]
    assert plan.steps[0].message == "the run due at 2026-11-22T02:00:00Z was due as well and takes its place"


def test_of_two_due_together_the_second_waits_for_the_first() -> None:
    assert outcomes(decide(OverlapPolicy.SKIP, MissedPolicy.SKIP, Standing(), due(on_time=2))) == [(FIRED, 0), (SKIPPED, 1)]
    assert outcomes(decide(OverlapPolicy.QUEUE, MissedPolicy.SKIP, Standing(), due(on_time=2))) == [(FIRED, 0), (HELD, 1)]


def test_a_held_run_comes_before_those_due_now() -> None:
    standing = Standing(held=[HeldRun("run_1", at(-2)), HeldRun("run_2", at(-1))])
    plan = decide(OverlapPolicy.QUEUE, MissedPolicy.SKIP, standing, due(on_time=1))
    assert outcomes(plan) == [(FIRED, -2), (HELD, 0)]
    assert plan.steps[0].held_id == "run_1"


def test_a_held_run_is_fired_though_nothing_is_due() -> None:
    plan = decide(OverlapPolicy.QUEUE, MissedPolicy.SKIP, Standing(held=[HeldRun("run_1", at(-2))]), DueTimes())
    assert outcomes(plan) == [(FIRED, -2)]
    assert plan.through is None


def test_only_so_many_are_held() -> None:
    held = [HeldRun(f"run_{number}", at(-number)) for number in range(MAX_HELD - 1)]
    plan = decide(OverlapPolicy.QUEUE, MissedPolicy.SKIP, Standing("job_1", held), due(on_time=3))
    assert outcomes(plan) == [(HELD, 0), (SKIPPED, 1), (SKIPPED, 2)]
    assert plan.steps[1].message == "job_1 was not over, and 100 runs wait for it already"


def test_missed_skip_says_how_many() -> None:
    plan = decide(OverlapPolicy.SKIP, MissedPolicy.SKIP, Standing(), due(late=3, on_time=1))
    assert outcomes(plan) == [(MISSED, 0), (FIRED, 3)]
    assert plan.steps[0].message == "3 runs from 2026-11-22T00:00:00Z on came due while no scheduler ran or the schedule was paused"
    assert plan.through == at(3)


def test_missed_skip_says_when_it_did_not_count_on() -> None:
    plan = decide(OverlapPolicy.SKIP, MissedPolicy.SKIP, Standing(), due(late=3, is_more=True))
    assert plan.steps[0].message is not None and plan.steps[0].message.startswith("more than 3 runs from")
    assert plan.through == at(2)


def test_missed_run_once_runs_the_latest() -> None:
    assert outcomes(decide(OverlapPolicy.SKIP, MissedPolicy.RUN_ONCE, Standing(), due(late=3))) == [(MISSED, 0), (FIRED, 2)]
    assert outcomes(decide(OverlapPolicy.SKIP, MissedPolicy.RUN_ONCE, Standing(), due(late=1))) == [(FIRED, 0)]


def test_missed_run_once_and_one_on_time_do_not_overlap() -> None:
    plan = decide(OverlapPolicy.QUEUE, MissedPolicy.RUN_ONCE, Standing(), due(late=2, on_time=1))
    assert outcomes(plan) == [(MISSED, 0), (FIRED, 1), (HELD, 2)]


def test_missed_run_all_runs_them_one_after_the_other() -> None:
    plan = decide(OverlapPolicy.QUEUE, MissedPolicy.RUN_ALL, Standing(), due(late=3, on_time=1))
    assert outcomes(plan) == [(FIRED, 0), (HELD, 1), (HELD, 2), (HELD, 3)]


def test_missed_run_all_leaves_the_rest_to_the_next_pass() -> None:
    plan = decide(OverlapPolicy.QUEUE, MissedPolicy.RUN_ALL, Standing(), due(late=MAX_RUNS_PER_PASS + 50, on_time=1))
    assert len(plan.steps) == MAX_RUNS_PER_PASS
    assert plan.through == at(MAX_RUNS_PER_PASS - 1)


@given(
    overlap=st.sampled_from(OverlapPolicy),
    missed=st.sampled_from(MissedPolicy),
    is_busy=st.booleans(),
    num_held=st.integers(0, MAX_HELD),
    late=st.integers(0, 150),
    on_time=st.integers(0, MAX_RUNS_PER_PASS),
)
def test_what_always_holds(*, overlap: OverlapPolicy, missed: MissedPolicy, is_busy: bool, num_held: int, late: int, on_time: int) -> None:
    held = [HeldRun(f"run_{number}", at(number - num_held)) for number in range(num_held)]
    times = due(late, on_time)
    plan = decide(overlap, missed, Standing("job_1" if is_busy else None, held), times)
    everything = [*times.late, *times.on_time]
    fired = [step for step in plan.steps if step.outcome is FIRED]
    # Nothing overlaps: one run is fired in a pass, none beside a run that is not over, unless that one is cancelled.
    if overlap is not OverlapPolicy.CANCEL_PREVIOUS:
        assert len(fired) <= (0 if is_busy else 1)
    # A held run that may go on does, and it is the oldest.
    assert [step.held_id for step in plan.steps if step.held_id is not None] == ([] if is_busy or not held else ["run_0"])
    # No due time is dealt with twice, and they come in their order.
    told = [step.due_at for step in plan.steps if step.held_id is None]
    assert told == sorted(set(told))
    # None is lost: up to `through` each has a step of its own, or is one of those told of together as missed.
    dealt_with = [] if plan.through is None else [moment for moment in everything if moment <= plan.through]
    summed_up = [step for step in plan.steps if step.outcome is MISSED]
    num_missed = len(dealt_with) - (len(told) - len(summed_up))
    assert len(summed_up) == (1 if num_missed else 0)
    if summed_up:
        assert summed_up[0].message is not None and summed_up[0].message.startswith(f"{num_missed} run")
        assert summed_up[0].due_at == everything[0]
    # What is on time is never missed, and what is left for the next pass is so only with run_all.
    assert set(times.on_time) & set(dealt_with) <= set(told)
    assert dealt_with == (everything[:MAX_RUNS_PER_PASS] if missed is MissedPolicy.RUN_ALL else everything)
    # Held ones stay few.
    assert num_held + sum(step.outcome is HELD for step in plan.steps) <= MAX_HELD + (0 if is_busy else 1)
    assert overlap is OverlapPolicy.QUEUE or not any(step.outcome is HELD for step in plan.steps)
    # Whatever is not run says why.
    assert all(step.message for step in plan.steps if step.outcome is not FIRED)
