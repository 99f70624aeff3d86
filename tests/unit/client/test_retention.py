"""``client.retention`` and ``quantry retention``: the table, what is asked for, and what is told of it."""

from __future__ import annotations

import json

import pytest

from factories.client import NOW, FakeServer, answer, page
from quantry.cli.main import main
from quantry_core.retention import (
    RETAINED,
    RetentionCount,
    RetentionKind,
    RetentionPart,
    RetentionRun,
    RetentionRunStatus,
    policy_of,
)

RUN_ID = "ret_" + "1" * 32
PATH = "/api/v1/retention"
REMOVED = RetentionCount(kind=RetentionKind.JOB_EVENTS, num_removed=1200, size_bytes=3000, oldest_kept_at=NOW, duration_s=0.5)
UNTOUCHED = RetentionCount(kind=RetentionKind.WORKERS, num_removed=0, size_bytes=0, oldest_kept_at=None, duration_s=0.0)
BROKEN = RetentionCount(
    kind=RetentionKind.AUDIT, num_removed=0, size_bytes=0, oldest_kept_at=None, duration_s=0.0, error="the chain was busy"
)


def run(status: RetentionRunStatus, *counts: RetentionCount, dry_run: bool = False) -> RetentionRun:
    has_ended = status in {RetentionRunStatus.SUCCEEDED, RetentionRunStatus.FAILED}
    return RetentionRun(
        id=RUN_ID,
        part=RetentionPart.API,
        status=status,
        dry_run=dry_run,
        asked_by_key_id="key_1",
        created_at=NOW,
        finished_at=NOW if has_ended else None,
        num_removed=sum(count.num_removed for count in counts),
        size_bytes=sum(count.size_bytes for count in counts),
        counts=list(counts),
    )


@pytest.mark.parametrize("command", ["policy", "show"])
def test_the_table_tells_days_for_ever_and_a_time_of_its_own(server: FakeServer, capsys: pytest.CaptureFixture[str], command: str) -> None:
    days = {line.kind: line.default_days for line in RETAINED}
    server.on("GET", PATH, answer(policy_of(days, 3600.0)))
    assert main(["retention", command]) == 0
    told = capsys.readouterr().out
    assert all(line.kind in told for line in RETAINED)
    for word in ("30 days", "for ever", "its own time", "QUANTRY_AUDIT_KEEP_DAYS", "a master's bytes"):
        assert word in told


def test_a_run_counts_where_it_is_told_to_and_else_removes(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", f"{PATH}/run", answer(run(RetentionRunStatus.QUEUED), 202))
    assert main(["retention", "run", "--dry-run"]) == 0
    assert main(["retention", "run"]) == 0
    server.client().retention.run()
    asked = [json.loads(request.content)["dry_run"] for request in server.requests if request.method == "POST"]
    assert asked == [True, False, True], "a program that does not say it removes nothing"
    assert f"quantry retention show {RUN_ID}" in capsys.readouterr().out


def test_a_run_is_waited_for_and_told_kind_by_kind(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", f"{PATH}/run", answer(run(RetentionRunStatus.QUEUED), 202))
    server.on("GET", f"{PATH}/runs/{RUN_ID}", answer(run(RetentionRunStatus.SUCCEEDED, REMOVED, UNTOUCHED)))
    assert main(["retention", "run", "--wait"]) == 0
    told = capsys.readouterr().out
    assert "job-events" in told
    assert "1,200" in told
    assert "3.0 kB" in told
    assert "workers" not in told, "of what there was nothing"


def test_a_kind_that_failed_is_the_exit_code(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", f"{PATH}/runs/{RUN_ID}", answer(run(RetentionRunStatus.FAILED, REMOVED, BROKEN)))
    assert main(["retention", "show", RUN_ID]) == 1
    assert "the chain was busy" in capsys.readouterr().out


def test_runs_are_listed_and_those_that_counted_say_so(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", f"{PATH}/runs", page(run(RetentionRunStatus.SUCCEEDED, REMOVED, dry_run=True)))
    for command in ("list", "runs"):
        assert main(["retention", command]) == 0
        assert "1,200 would be" in capsys.readouterr().out


def test_the_wait_asks_until_the_end() -> None:
    server = FakeServer()
    states = (RetentionRunStatus.QUEUED, RetentionRunStatus.RUNNING, RetentionRunStatus.SUCCEEDED)
    server.on("GET", f"{PATH}/runs/{RUN_ID}", *(answer(run(status)) for status in states))
    assert server.client().retention.wait(RUN_ID, poll_s=2).status is RetentionRunStatus.SUCCEEDED
    assert server.slept_s == [2, 2]
