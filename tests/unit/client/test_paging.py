"""From pages to everything."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from factories.client import FakeServer, answer, job, page
from quantry_core.jobs import JobStatus

JOBS = "/api/v1/jobs"


def ids(*numbers: int) -> list[str]:
    return [f"job_{number:032x}" for number in numbers]


def some(*numbers: int, has_more: bool = False) -> Any:
    return page(*(job(id=one) for one in ids(*numbers)), has_more=has_more)


def test_every_page_is_asked_for_after_the_last_one() -> None:
    server = FakeServer()
    server.on("GET", JOBS, some(1, 2, has_more=True), some(3, 4, has_more=True), some(5))
    assert [one.id for one in server.client().jobs.iterate(labels="team=search")] == ids(1, 2, 3, 4, 5)
    assert [request.url.params.get("after") for request in server.requests] == [None, *ids(2, 4)]
    assert {request.url.params["labels"] for request in server.requests} == {"team=search"}


def test_what_is_not_needed_is_not_asked_for() -> None:
    server = FakeServer()
    server.on("GET", JOBS, some(1, 2, has_more=True), some(3))
    jobs = server.client().jobs.iterate(status=JobStatus.QUEUED)
    assert server.requests == []
    assert next(jobs).id == ids(1)[0]
    jobs.close()
    assert len(server.requests) == 1


@pytest.mark.parametrize(("max_items", "limits"), [(0, []), (1, ["1"]), (100, ["100"]), (250, ["100", "100", "50"])])
def test_a_bound_is_kept_and_no_more_than_that_asked_for(max_items: int, limits: list[str]) -> None:
    server = FakeServer()
    made = iter(range(1, 1000))

    def handle(request: httpx.Request) -> httpx.Response:
        return some(*(next(made) for _ in range(int(request.url.params["limit"]))), has_more=True)(request)  # type: ignore[no-any-return]

    server.on("GET", JOBS, handle)
    assert len(list(server.client().jobs.iterate(max_items=max_items))) == max_items
    assert [request.url.params["limit"] for request in server.requests] == limits


def test_an_empty_page_that_promises_more_ends_it() -> None:
    server = FakeServer()
    server.on("GET", JOBS, answer({"data": [], "has_more": True, "first_id": None, "last_id": None}))
    assert list(server.client().jobs.iterate()) == []
    assert len(server.requests) == 1
