"""What is done with the due times of a schedule: one pure decision, from its policies and where its last run is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from quantry_core.schedules import MissedPolicy, OverlapPolicy, RunOutcome

MAX_RUNS_PER_PASS = 100
"""Due times that one pass deals with at most; the next pass deals with the others."""

MAX_HELD = 100
"""Runs of one schedule that may wait for the one before; later ones are skipped."""


@dataclass(frozen=True)
class HeldRun:
    """A run that waits until the one before is over."""

    id: str
    due_at: datetime


@dataclass(frozen=True)
class Standing:
    """Where a schedule's runs are: what is not over (a job's or pipeline's id), and what is held, oldest first."""

    busy_with: str | None = None
    held: Sequence[HeldRun] = ()


@dataclass(frozen=True)
class DueTimes:
    """Due times that nobody dealt with yet.

    ``late`` are those older than the grace, oldest first, as many as were counted: ``is_more`` tells that there are others
    between the last two. The last of ``late`` is really the last. ``on_time`` are the others, oldest first.
    """

    late: Sequence[datetime] = ()
    on_time: Sequence[datetime] = ()
    is_more: bool = False


@dataclass(frozen=True)
class Step:
    """One thing to do: ``fired`` means to submit the template, every other outcome is only written down.

    ``held_id`` names the held run that is fired now; None for a due time that has no run yet.
    """

    outcome: RunOutcome
    due_at: datetime
    message: str | None = None
    held_id: str | None = None


@dataclass(frozen=True)
class Plan:
    """What to do, in this order, and the last due time that this deals with; None if it deals with none."""

    steps: Sequence[Step]
    through: datetime | None


def decide(overlap: OverlapPolicy, missed: MissedPolicy, standing: Standing, due: DueTimes) -> Plan:
    """Returns what to do with everything that is due and held.

    At most one run is fired: those due after it in the same pass are not to overlap with it either.
    """
    to_run, steps = _apply_missed(missed, due)
    held = list(standing.held)
    busy_with = standing.busy_with
    if held and busy_with is None:
        oldest = held.pop(0)
        steps.append(Step(RunOutcome.FIRED, oldest.due_at, held_id=oldest.id))
        busy_with = f"the run due at {moment_text(oldest.due_at)}"
    num_held = len(held)
    for due_at in to_run:
        step = _run_or_not(overlap, due_at, busy_with=busy_with, num_held=num_held, last_due_at=to_run[-1])
        steps.append(step)
        num_held += step.outcome is RunOutcome.HELD
        if step.outcome is RunOutcome.FIRED:
            busy_with = f"the run due at {moment_text(due_at)}"
    return Plan(steps, _through(to_run, due, missed))


def _apply_missed(missed: MissedPolicy, due: DueTimes) -> tuple[list[datetime], list[Step]]:
    """Returns the due times to run, and what is written down of those that are not."""
    match missed:
        case MissedPolicy.RUN_ALL:
            return [*due.late, *due.on_time][:MAX_RUNS_PER_PASS], []
        case MissedPolicy.RUN_ONCE:
            lost, to_run = due.late[:-1], [*due.late[-1:], *due.on_time]
        case MissedPolicy.SKIP:
            lost, to_run = due.late, list(due.on_time)
    return to_run, [_missed(lost, is_more=due.is_more)] if lost else []


def _missed(lost: Sequence[datetime], *, is_more: bool) -> Step:
    count = f"more than {len(lost)}" if is_more else str(len(lost))
    noun = "run" if len(lost) == 1 and not is_more else "runs"
    message = f"{count} {noun} from {moment_text(lost[0])} on came due while no scheduler ran or the schedule was paused"
    return Step(RunOutcome.MISSED, lost[0], message)


def _run_or_not(overlap: OverlapPolicy, due_at: datetime, *, busy_with: str | None, num_held: int, last_due_at: datetime) -> Step:
    if overlap is OverlapPolicy.CANCEL_PREVIOUS:
        if due_at < last_due_at:
            return Step(RunOutcome.SKIPPED, due_at, f"the run due at {moment_text(last_due_at)} was due as well and takes its place")
        return Step(RunOutcome.FIRED, due_at)
    if busy_with is None:
        return Step(RunOutcome.FIRED, due_at)
    if overlap is OverlapPolicy.SKIP:
        return Step(RunOutcome.SKIPPED, due_at, f"{busy_with} was not over")
    if num_held >= MAX_HELD:
        return Step(RunOutcome.SKIPPED, due_at, f"{busy_with} was not over, and {MAX_HELD} runs wait for it already")
    return Step(RunOutcome.HELD, due_at, f"waits for {busy_with}")


def _through(to_run: Sequence[datetime], due: DueTimes, missed: MissedPolicy) -> datetime | None:
    if missed is MissedPolicy.RUN_ALL:
        return to_run[-1] if to_run else None
    everything = [*due.late, *due.on_time]
    return everything[-1] if everything else None


def moment_text(moment: datetime) -> str:
    """Returns a moment as messages name it, for example 2026-03-29T01:00:00Z."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
