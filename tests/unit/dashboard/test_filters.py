"""The list's address: what it may ask for, and what is said of the rest."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from quantry_core.jobs import JobStatus, JobType
from quantry_dashboard.filters import ROWS, JobFilters, parse


def test_an_address_and_its_view_are_the_same_thing() -> None:
    filters = JobFilters(
        status=JobStatus.FAILED, type=JobType.QUANTIZE, labels="team=search,!draft", queue="gpu-80g", after="job_1", limit=50
    )
    assert parse(dict(parse_qsl(urlsplit(filters.url()).query))) == (filters, [])


def test_the_whole_list_has_a_plain_address() -> None:
    assert JobFilters().url() == "/jobs"
    assert parse({"status": "", "labels": "  "}) == (JobFilters(), [])
    assert not JobFilters(after="job_1").is_narrowed


def test_another_filter_begins_with_the_first_page() -> None:
    filters = JobFilters(status=JobStatus.FAILED, after="job_1", limit=50)
    assert filters.url(type="quantize") == "/jobs?status=failed&type=quantize&limit=50"
    assert filters.url(status="") == "/jobs?limit=50"
    assert filters.url(after="job_0") == "/jobs?status=failed&after=job_0&limit=50"


def test_what_somebody_typed_cannot_become_another_filter() -> None:
    assert JobFilters().url(labels="a=b&status=failed#x") == "/jobs?labels=a%3Db%26status%3Dfailed%23x"


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"status": "sleeping"}, "no status 'sleeping'; a job is waiting, queued, running, succeeded, failed or cancelled"),
        ({"type": "cook"}, "no job type 'cook'"),
        ({"queue": "tpu"}, "'tpu' is no queue"),
        ({"limit": "0"}, "1 to 100 jobs"),
        ({"limit": "101"}, "1 to 100 jobs"),
        ({"limit": "١٠"}, "1 to 100 jobs"),
        ({"limit": "9" * 5000}, "1 to 100 jobs"),
    ],
)
def test_what_cannot_be_is_left_out_and_said(query: dict[str, str], words: str) -> None:
    filters, problems = parse(query)
    assert filters == JobFilters(limit=ROWS)
    assert len(problems) == 1
    assert words in problems[0]
