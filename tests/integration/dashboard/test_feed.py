"""A job's events in a thread: they come, they go on where they broke off, and the thread ends when it is told to."""

from __future__ import annotations

import queue
import socket
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from factories.job_api import OPERATOR_KEY, JobApi, a_job, serving
from quantry import Client
from quantry_core.jobs import EventKind, Job, JobEvent, JobStatus
from quantry_dashboard.feed import THREAD_NAME, EventFeed

SOON_S = 10.0
KINDS = (EventKind.STATE, EventKind.NOTE)


@pytest.fixture
def api() -> JobApi:
    return JobApi()


@pytest.fixture
def job(api: JobApi) -> Job:
    return api.add(a_job())


class Reader:
    """A feed on an API, and what it delivered."""

    def __init__(self, url: str, job: Job, *, after: int = 0) -> None:
        self.events: queue.Queue[JobEvent] = queue.Queue()

        def client_over(transport: httpx.BaseTransport, sleep: Callable[[float], None]) -> Client:
            return Client(url, OPERATOR_KEY, transport=transport, sleep=sleep)

        self.feed = EventFeed(client_over, job.id, after=after, kinds=KINDS, deliver=self.events.put)
        self.feed.start()

    def next_text(self) -> str:
        return str(self.events.get(timeout=SOON_S).data["text"])


@pytest.fixture
def url(api: JobApi) -> Iterator[str]:
    with serving(api) as served:
        yield served
    assert [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)] == []


def test_events_come_as_they_happen_and_only_the_wanted_kinds(api: JobApi, job: Job, url: str) -> None:
    api.tell(job, EventKind.NOTE, text="before")
    reader = Reader(url, job)
    assert reader.next_text() == "before"
    api.tell(job, EventKind.LOG, text="a line")
    api.tell(job, EventKind.NOTE, text="after")
    assert reader.next_text() == "after"
    reader.feed.stop()
    reader.feed.join(SOON_S)


def test_it_goes_on_after_the_last_event_that_is_known(api: JobApi, job: Job, url: str) -> None:
    for number in range(5):
        api.tell(job, EventKind.NOTE, text=str(number))
    reader = Reader(url, job, after=3)
    assert [reader.next_text(), reader.next_text()] == ["3", "4"]
    reader.feed.stop()
    reader.feed.join(SOON_S)


def test_it_ends_with_its_job(api: JobApi, job: Job, url: str) -> None:
    reader = Reader(url, job)
    api.change(job, status=JobStatus.SUCCEEDED)
    api.tell(job, EventKind.STATE, status="succeeded")
    assert reader.events.get(timeout=SOON_S).data == {"status": "succeeded"}
    reader.feed.join(SOON_S)
    assert not reader.feed.is_running


def test_stopping_ends_the_thread_and_the_stream_of_a_silent_job(api: JobApi, job: Job, url: str) -> None:
    api.tell(job, EventKind.NOTE, text="before")
    readers = [Reader(url, job) for _ in range(5)]
    for reader in readers:
        reader.next_text()
    for reader in readers:
        reader.feed.stop()
    for reader in readers:
        reader.feed.join(SOON_S)
        assert not reader.feed.is_running
    with api.lock:
        assert api.lock.wait_for(lambda: api.num_streams == 0, SOON_S)


def test_stopping_ends_the_wait_for_a_server_that_says_nothing(job: Job) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(SOON_S)
        reader = Reader(f"http://127.0.0.1:{silent.getsockname()[1]}", job)
        connection, _ = silent.accept()
        with connection:
            connection.settimeout(SOON_S)
            assert connection.recv(10).startswith(b"GET /api")
            reader.feed.stop()
            reader.feed.join(SOON_S)
    assert not reader.feed.is_running


def test_a_refused_key_ends_it_quietly(api: JobApi, job: Job, url: str) -> None:
    api.roles.clear()
    reader = Reader(url, job)
    reader.feed.join(SOON_S)
    assert reader.events.empty()
