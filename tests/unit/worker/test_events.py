from __future__ import annotations

import threading
import time

import pytest

from factories.fake_control import FakeControl
from quantry_core.errors import InvalidInput, StaleAttempt, Unavailable
from quantry_core.execution import MAX_EVENTS_PER_POST, EventsRequest
from quantry_core.jobs import EventKind
from quantry_worker.events import BATCH_EVENTS, FLUSH_INTERVAL_S, LAST_LOG_LINES, MAX_LOG_LINES, MAX_METRICS, MAX_NOTES, EventBuffer
from quantry_worker.guard import Guard, StopReason
from quantry_worker.progress import Pace
from quantry_worker.protocol import ChildMetrics, ChildProgress


class BlockedControl(FakeControl):
    """Holds the first post back until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.is_posting = threading.Event()
        self.release = threading.Event()

    def events(self, job_id: str, request: EventsRequest, timeout_s: float) -> None:
        self.is_posting.set()
        assert self.release.wait(5)
        super().events(job_id, request, timeout_s)


class World:
    """An event buffer without its thread: the test flushes."""

    def __init__(self, control: FakeControl | None = None) -> None:
        self.control = control or FakeControl()
        self.guard = Guard(lease_s=60, since=0, is_draining=lambda: False, clock=lambda: 0)
        self.events = EventBuffer(self.control, "job_1", 2, self.guard, Pace(lambda: 0))


@pytest.fixture
def world() -> World:
    return World()


def test_lines_arrive_in_order_and_in_batches(world: World) -> None:
    for number in range(250):
        world.events.log(f"line {number}")
    assert world.events.flush()
    assert world.control.said(EventKind.LOG) == [f"line {number}" for number in range(250)]
    assert [len(request.events) for request in world.control.posted] == [BATCH_EVENTS, BATCH_EVENTS, 50]
    assert BATCH_EVENTS < MAX_EVENTS_PER_POST
    assert {request.attempt for request in world.control.posted} == {2}


def test_nothing_is_posted_when_nothing_was_said(world: World) -> None:
    assert world.events.flush()
    assert world.control.posted == []


def test_of_a_long_log_the_beginning_and_the_end_are_kept(world: World) -> None:
    num_lines = MAX_LOG_LINES + LAST_LOG_LINES + 300
    for number in range(num_lines):
        world.events.log(str(number))
    assert world.events.flush()
    assert len(world.control.said(EventKind.LOG)) == MAX_LOG_LINES
    assert world.events.end()
    kept = [*range(MAX_LOG_LINES), *range(num_lines - LAST_LOG_LINES, num_lines)]
    assert world.control.said(EventKind.LOG) == [str(number) for number in kept]
    notes = world.control.said(EventKind.NOTE)
    assert len(notes) == 2
    assert str(MAX_LOG_LINES) in notes[0]
    assert notes[1] == "300 log lines are left out here"
    last = world.control.posted[-LAST_LOG_LINES // BATCH_EVENTS - 1].events[0]
    assert last.data["text"] == notes[1]


def test_of_a_log_that_is_a_little_too_long_nothing_is_left_out(world: World) -> None:
    for number in range(MAX_LOG_LINES + 7):
        world.events.log(str(number))
    assert world.events.end()
    assert world.control.said(EventKind.LOG) == [str(number) for number in range(MAX_LOG_LINES + 7)]
    assert len(world.control.said(EventKind.NOTE)) == 1


def test_notes_have_a_limit_too(world: World) -> None:
    for number in range(MAX_NOTES + 10):
        world.events.note(str(number))
    world.events.flush()
    assert len(world.control.said(EventKind.NOTE)) == MAX_NOTES


def test_what_could_not_be_posted_is_posted_later_in_order(world: World) -> None:
    world.control.troubles["events"] = [Unavailable("away")]
    lines = [f"line {number}" for number in range(BATCH_EVENTS + 50)]
    for line in lines:
        world.events.log(line)
    assert not world.events.flush()
    assert world.events.flush()
    assert world.control.said(EventKind.LOG) == lines


def test_the_end_waits_for_a_control_plane_that_is_away(world: World) -> None:
    world.control.troubles["events"] = [Unavailable("away"), Unavailable("away")]
    pauses_s: list[float] = []
    world.events.log("last words")
    assert world.events.end(sleep=pauses_s.append)
    assert world.control.said(EventKind.LOG) == ["last words"]
    assert pauses_s == [FLUSH_INTERVAL_S, FLUSH_INTERVAL_S]


@pytest.mark.parametrize("reason", [StopReason.LEASE_LOST, StopReason.DRAINING])
def test_the_end_waits_no_longer_than_the_attempt_may(world: World, reason: StopReason) -> None:
    world.control.troubles["events"] = [Unavailable("away"), Unavailable("away")]
    pauses_s: list[float] = []

    def pause(seconds: float) -> None:
        pauses_s.append(seconds)
        world.guard.mark(reason)

    world.events.log("last words")
    assert not world.events.end(sleep=pause)
    assert len(pauses_s) == 1
    assert world.control.posted == []


def test_a_batch_is_sent_again_as_it_was_with_the_offset_it_had(world: World) -> None:
    world.events.log("first")
    assert world.events.flush()
    world.control.troubles["events"] = [Unavailable("away")]
    world.events.log("second")
    world.events.progress(ChildProgress(phase="work", fraction=0.1))
    assert not world.events.flush()
    world.events.log("third")
    world.events.progress(ChildProgress(phase="work", fraction=0.2))
    assert world.events.flush()
    assert [(request.offset, len(request.events)) for request in world.control.posted] == [(0, 1), (1, 2), (3, 2)]
    kinds = [[event.kind for event in request.events] for request in world.control.posted]
    assert kinds == [[EventKind.LOG], [EventKind.LOG, EventKind.PROGRESS], [EventKind.LOG, EventKind.PROGRESS]]
    fractions = [event.data["fraction"] for request in world.control.posted for event in request.events if event.kind is EventKind.PROGRESS]
    assert fractions == [0.1, 0.2]


def test_nothing_is_posted_once_the_lease_is_lost(world: World) -> None:
    world.events.log("late")
    world.guard.mark(StopReason.LEASE_LOST)
    assert not world.events.end()
    assert world.control.posted == []


def test_what_is_refused_is_dropped(world: World) -> None:
    world.control.troubles["events"] = [InvalidInput("no")]
    world.events.log("first")
    assert world.events.flush()
    world.events.log("second")
    assert world.events.flush()
    assert world.control.said(EventKind.LOG) == ["second"]
    assert world.control.posted[0].offset == 0


def test_a_stale_answer_ends_the_attempt(world: World) -> None:
    world.control.troubles["events"] = [StaleAttempt("not yours")]
    world.events.log("first")
    assert not world.events.flush()
    assert world.guard.reason() is StopReason.STALE


def test_only_the_newest_progress_is_posted(world: World) -> None:
    for step in range(10):
        world.events.progress(ChildProgress(phase="work", fraction=step / 10))
    world.events.flush()
    posted = [event.data for request in world.control.posted for event in request.events]
    assert [data["fraction"] for data in posted] == [0.9]


def test_control_characters_are_gone(world: World) -> None:
    world.events.note("a\0b")
    world.events.progress(ChildProgress(phase="a\0b", fraction=0, detail="c\0d", done=1, total=2, unit="e\0f"))
    world.events.flush()
    assert "\\u0000" not in "".join(request.model_dump_json() for request in world.control.posted)


def test_the_thread_posts_by_itself(world: World) -> None:
    with world.events:
        world.events.log("hello")
        give_up_at = time.monotonic() + 5
        while not world.control.posted:
            assert time.monotonic() < give_up_at
            time.sleep(0.01)
    assert world.control.said(EventKind.LOG) == ["hello"]


BATCH = [f"line {number}" for number in range(BATCH_EVENTS)]
"""As many lines as make the thread post at once."""


def flush_while_the_thread_posts(control: BlockedControl, world: World) -> tuple[bool, list[str]]:
    """Flushes while a full batch is on its way that gets there a little later; returns what it said and what was there by then."""
    with world.events:
        for line in BATCH:
            world.events.log(line)
        assert control.is_posting.wait(5)
        released = threading.Timer(0.1, control.release.set)
        released.start()
        has_succeeded = world.events.flush()
        arrived = control.said(EventKind.LOG)
        released.join()
    return has_succeeded, arrived


def test_a_flush_waits_for_what_the_thread_is_posting() -> None:
    control = BlockedControl()
    assert flush_while_the_thread_posts(control, World(control)) == (True, BATCH)


def test_a_flush_posts_what_the_thread_could_not() -> None:
    control = BlockedControl()
    control.troubles["events"] = [Unavailable("away")]
    assert flush_while_the_thread_posts(control, World(control)) == (True, BATCH)


def test_a_flush_does_not_call_it_a_success_when_the_thread_was_refused_as_stale() -> None:
    control = BlockedControl()
    control.troubles["events"] = [StaleAttempt("not yours")]
    assert flush_while_the_thread_posts(control, World(control)) == (False, [])


def points(world: World) -> list[dict[str, object]]:
    return [event.data for request in world.control.posted for event in request.events if event.kind is EventKind.METRICS]


def test_points_of_curves_wait_for_a_control_plane_that_is_away(world: World) -> None:
    world.control.troubles["events"] = [Unavailable("restarting")] * 3
    for step in range(1, 4):
        world.events.metrics(ChildMetrics(step=step, values={"loss": 1.0 / step}))
        assert not world.events.flush()
    assert world.events.flush()
    assert points(world) == [{"step": step, "loss": 1.0 / step} for step in range(1, 4)]


def test_what_is_not_finite_is_no_point(world: World) -> None:
    world.events.metrics(ChildMetrics(step=1, values={"loss": float("nan"), "grad_norm": float("inf")}))
    world.events.metrics(ChildMetrics(step=2, values={"loss": float("nan"), "learning_rate": 0.1, "step": 7.0}))
    assert world.events.flush()
    assert points(world) == [{"step": 2, "learning_rate": 0.1}]


def test_points_of_an_attempt_are_bounded(world: World) -> None:
    for step in range(MAX_METRICS + 5):
        world.events.metrics(ChildMetrics(step=step, values={"loss": 1.0}))
    assert world.events.flush()
    assert len(points(world)) == MAX_METRICS
    assert len(world.control.said(EventKind.NOTE)) == 1
