"""How durations, sizes, moments and jobs are said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from factories.job_api import a_job, a_spec
from quantry_core.jobs import (
    REASONS,
    AdapterShare,
    DeploySpec,
    EvaluateSpec,
    EventKind,
    FinetuneSpec,
    ImportSpec,
    JobEvent,
    JobReason,
    JobResult,
    JobStatus,
    MergeSpec,
    Progress,
    WaitingOn,
)
from quantry_dashboard import words

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (200, "3 min 20 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (7544, "2 h 5 min"),
        (86400, "1 d"),
        (86400 * 3 + 4 * 3600 + 59, "3 d 4 h"),
    ],
)
def test_durations_have_their_two_largest_units(seconds: float, text: str) -> None:
    assert words.duration_text(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(-3, "just now"), (4, "just now"), (59, "59 s ago"), (60, "1 min ago"), (7300, "2 h ago"), (200000, "2 d ago")]
)
def test_moments_are_told_by_their_distance(seconds: float, text: str) -> None:
    assert words.ago_text(NOW - timedelta(seconds=seconds), NOW) == text


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (11_534_336, "11.5 MB"), (3.4e9, "3.4 GB"), (2e15, "2000.0 TB")])
def test_sizes_are_decimal(size: float, text: str) -> None:
    assert words.bytes_text(size) == text


def test_ids_are_shortened_to_their_random_end() -> None:
    assert words.short_id("job_01a2021d96ac7b1dbfad22248f9dc8ce") == "job_…8f9dc8ce"
    assert words.short_id("nonsense") == "nonsense"


def test_each_type_says_what_it_is_about() -> None:
    made_by = "output:job_01a2021d96ac7b1dbfad22248f9dc8ce"
    about = [
        words.about(a_job(spec=spec))
        for spec in (
            ImportSpec(model="bard", source="/models/bard"),
            a_spec("bard@1"),
            EvaluateSpec(version=made_by, corpora=["kjv.test", "speeches.test"]),
            DeploySpec(deployment="chat", version="bard@2"),
            FinetuneSpec(model="bard@1", training_file="lessons"),
            MergeSpec(adapters=[AdapterShare(adapter="bard@3"), AdapterShare(adapter=made_by)]),
        )
    ]
    assert about == [
        "bard",
        "bard@1 · gptq W4A16",
        "output of job_…8f9dc8ce · kjv.test, speeches.test",
        "chat ← bard@2",
        "bard@1 · supervised · lessons",
        "bard@3 + output of job_…8f9dc8ce",
    ]


def test_a_version_that_is_given_by_its_id_is_named_where_that_is_known_and_short_elsewhere() -> None:
    version_id = "ver_01a2021d96ac7b1dbfad22248f9dc8ce"
    job = a_job(spec=DeploySpec(deployment="chat", version=version_id))
    assert words.about(job) == "chat ← ver_…8f9dc8ce"
    assert words.about(job, {version_id: "bard@2"}) == "chat ← bard@2"
    assert words.about(job, {version_id: ""}) == "chat ← ver_…8f9dc8ce"


@pytest.mark.parametrize(
    ("status", "changes", "text"),
    [
        (JobStatus.WAITING, {"waiting_on": WaitingOn.NEEDS}, "for jobs it needs"),
        (JobStatus.QUEUED, {}, ""),
        (JobStatus.RUNNING, {"cancel_requested": True}, "asked to stop"),
        (JobStatus.FAILED, {"reason": JobReason.OUT_OF_MEMORY}, "out of memory"),
        (JobStatus.CANCELLED, {}, ""),
        (JobStatus.SUCCEEDED, {}, ""),
        (JobStatus.SUCCEEDED, {"result": JobResult(reused=True)}, "reused"),
    ],
)
def test_the_reason_is_a_few_words_beside_the_status(status: JobStatus, changes: dict[str, Any], text: str) -> None:
    assert words.reason_text(a_job(status, **changes)) == text


def test_every_way_of_waiting_has_words() -> None:
    assert set(words.WAITING_WORDS) == set(WaitingOn)


def test_a_message_explains_better_than_its_reason() -> None:
    assert words.explanation(a_job(JobStatus.FAILED, message="no file")) == "no file"
    assert words.explanation(a_job(JobStatus.FAILED)) == REASONS[JobReason.INTERNAL].words
    later = a_job(JobStatus.WAITING, waiting_on=WaitingOn.TIME, not_before=NOW)
    assert words.explanation(later) == "It may start at 2026-11-22 12:00:00 UTC."
    assert words.explanation(a_job(JobStatus.QUEUED)) == ""


def test_progress_tells_what_is_known_and_no_more() -> None:
    full = Progress(
        phase="quantize", fraction=0.4, detail="layers.3", done=3, total=12, unit="layers", rate_per_s=0.8123456, remaining_s=190
    )
    assert words.progress_text(full) == "quantize · 3 min 10 s left"
    assert words.progress_details(full) == "quantize · layers.3 · 3 of 12 layers · 0.8123 layers/s · 3 min 10 s left"
    assert words.progress_details(Progress(phase="load", fraction=0)) == "load"
    same_number = Progress(phase="score", fraction=0.5, detail="speeches.5", done=5, unit="windows")
    assert words.progress_details(same_number) == "score · speeches.5 · 5 windows"
    pull = Progress(phase="pull", fraction=0.1, done=1_200_000, total=11_000_000, unit="bytes", rate_per_s=800_000)
    assert words.progress_details(pull) == "pull · 1.2 MB of 11.0 MB · 800.0 kB/s"
    assert words.progress_details(Progress(phase="count", fraction=0.1, done=7, rate_per_s=2)) == "count · 7 · 2 steps/s"


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        (EventKind.STATE, {"status": "failed", "reason": "out_of_memory", "message": "17 GB"}, "failed · out of memory: 17 GB"),
        (EventKind.STATE, {"status": "cancelled", "reason": "cancelled"}, "cancelled"),
        (EventKind.STATE, {"status": "waiting", "waiting_on": "needs"}, "waiting · needs"),
        (EventKind.NOTE, {"text": "two threads"}, "two threads"),
        (EventKind.NOTE, {}, ""),
    ],
)
def test_events_in_one_line(kind: EventKind, data: dict[str, Any], text: str) -> None:
    assert words.event_text(JobEvent(seq=1, job_id="job_x", attempt=1, kind=kind, data=data, created_at=NOW)) == text


def test_a_duration_begins_with_the_first_start() -> None:
    assert words.run_duration_s(a_job(JobStatus.QUEUED), NOW) is None
    running = a_job(started_at=NOW - timedelta(seconds=30))
    assert words.run_duration_s(running, NOW) == 30
    ended = a_job(JobStatus.SUCCEEDED, started_at=NOW, finished_at=NOW + timedelta(seconds=9))
    assert words.run_duration_s(ended, NOW + timedelta(hours=1)) == 9


def test_how_many_jobs_are_where_is_told_in_the_order_of_their_lives() -> None:
    assert words.counts_text({JobStatus.SUCCEEDED: 2, JobStatus.RUNNING: 1, JobStatus.FAILED: 0}) == "1 running, 2 succeeded"
    assert words.counts_text({}) == ""


def test_a_job_has_a_duration_once_it_runs() -> None:
    assert words.run_text(a_job(JobStatus.QUEUED), datetime.now(UTC)) == "–"
    assert words.run_text(a_job(JobStatus.SUCCEEDED, age_s=122), datetime.now(UTC)) == "1 min"
