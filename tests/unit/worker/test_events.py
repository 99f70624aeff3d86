from __future__ import annotations

import threading
import time

import pytest

from factories.fake_control import FakeControl
from quantry_core.errors import InvalidInput, StaleAttempt, Unavailable
from quantry_core.execution import MAX_EVENTS_PER_POST, EventsRequest
from quantry_core.jobs import EventKind, Progress
from quantry_worker.events import BATCH_EVENTS, MAX_LOG_LINES, MAX_NOTES, EventBuffer
from quantry_worker.guard import Guard, StopReason
from quantry_worker.protocol import ChildProgress


class BlockedControl(FakeControl):
    """Holds the first post back until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.is_posting = threading.Event()
        self.release = threading.Event()

    def events(self, job_id: str, request: EventsRequest) -> None:
        self.is_posting.set()
        assert self.release.wait(5)
        super().events(job_id, request)


class World:
    """An event buffer without its thread: the test flushes."""

    def __init__(self, control: FakeControl | None = None) -> None:
        self.control = control or FakeControl()
        self.guard = Guard(lease_s=60, since=0, is_draining=lambda: False, clock=lambda: 0)
        self.progress: list[Progress] = []
        self.events = EventBuffer(self.control, "job_1", 2, self.guard, self.progress.append)


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


def test_a_log_has_a_limit_and_says_so_once(world: World) -> None:
    for number in range(MAX_LOG_LINES + 500):
        world.events.log(str(number))
    world.events.flush()
    assert len(world.control.said(EventKind.LOG)) == MAX_LOG_LINES
    notes = world.control.said(EventKind.NOTE)
    assert len(notes) == 1
    assert str(MAX_LOG_LINES) in notes[0]


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


def test_what_is_refused_is_dropped(world: World) -> None:
    world.control.troubles["events"] = [InvalidInput("no")]
    world.events.log("first")
    assert world.events.flush()
    world.events.log("second")
    assert world.events.flush()
    assert world.control.said(EventKind.LOG) == ["second"]


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
    assert posted == [{"phase": "work", "fraction": 0.9, "detail": ""}]
    assert [progress.fraction for progress in world.progress] == [step / 10 for step in range(10)]


def test_control_characters_are_gone(world: World) -> None:
    world.events.note("a\0b")
    world.events.progress(ChildProgress(phase="a\0b", fraction=0, detail="c\0d"))
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
