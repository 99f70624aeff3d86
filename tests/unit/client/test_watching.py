"""Following jobs and their logs: several at once, on a terminal and elsewhere, and how that ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from factories.client import JOB_ID, OTHER_JOB_ID, FakeServer, Pieces, answer, event, event_bytes, event_stream, failing, job, succeeded
from quantry import ServerUnreachable
from quantry.cli import main as command
from quantry.cli.following import MAX_FOLLOWED, merged_events
from quantry.cli.progress import counts_text, progress_of, progress_text, rate_text, remaining_text
from quantry_core.jobs import EventKind, JobEvent, JobReason, JobStatus, Progress

JOB = f"/api/v1/jobs/{JOB_ID}"
OTHER = f"/api/v1/jobs/{OTHER_JOB_ID}"
LAYERS: dict[str, Any] = {
    "phase": "quantize",
    "fraction": 0.42,
    "done": 5,
    "total": 12,
    "unit": "layers",
    "rate_per_s": 1.26,
    "remaining_s": 65.0,
}


class Interrupted(httpx.SyncByteStream):
    """A stream during which somebody presses Ctrl-C."""

    def __init__(self, *events: JobEvent) -> None:
        self._events = events

    def __iter__(self) -> Iterator[bytes]:
        yield event_bytes(*self._events)
        raise KeyboardInterrupt


def run(*arguments: str) -> int:
    return command.main(arguments)


def prepare_two(server: FakeServer) -> None:
    """One job that succeeds, and one that fails."""
    server.on(
        "GET",
        f"{JOB}/events",
        event_stream(
            event(1, EventKind.STATE, at_s=-75, status="running"),
            event(2, EventKind.PROGRESS, **LAYERS),
            event(3, EventKind.STATE, status="succeeded", reason="completed"),
        ),
    )
    server.on(
        "GET",
        f"{OTHER}/events",
        event_stream(
            event(1, EventKind.NOTE, of=OTHER_JOB_ID, text="[red]a note"),
            event(2, EventKind.STATE, of=OTHER_JOB_ID, status="failed", reason="timed_out"),
        ),
    )
    server.on("GET", JOB, answer(succeeded()))
    server.on("GET", OTHER, answer(job(JobStatus.FAILED, id=OTHER_JOB_ID, reason=JobReason.TIMED_OUT)))


def test_the_newest_loss_stands_beside_the_progress(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    steps: dict[str, Any] = {"phase": "train", "unit": "steps", "total": 10}
    server.on(
        "GET",
        f"{JOB}/events",
        event_stream(
            event(1, EventKind.STATE, status="running"),
            event(2, EventKind.PROGRESS, **steps, fraction=0.1, done=1),
            event(3, EventKind.METRICS, step=1, loss=4.25),
            event(4, EventKind.METRICS, step=2, loss=2.31415, learning_rate=1e-4),
            event(5, EventKind.METRICS, step=2, eval_loss=9.0),
            event(6, EventKind.PROGRESS, **steps, fraction=0.2, done=2),
            event(7, EventKind.STATE, status="succeeded", reason="completed"),
        ),
    )
    server.on("GET", JOB, answer(succeeded()))
    assert run("jobs", "watch", JOB_ID) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.endswith("train  10% 1/10 steps") for line in lines)
    assert any(line.endswith("train  20% 2/10 steps, loss 2.314") for line in lines)


def test_several_jobs_in_lines(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_two(server)
    assert run("jobs", "watch", JOB_ID, OTHER_JOB_ID, JOB_ID) == 1
    captured = capsys.readouterr()
    assert f"{JOB_ID} quantize  42% 5/12 layers, 1.3 layers/s, 1 min 5 s left" in captured.out
    assert f"{OTHER_JOB_ID} [red]a note" in captured.out
    assert f"{JOB_ID} succeeded in 1.2 s" in captured.out
    assert f"{OTHER_JOB_ID} failed (timed_out): The job took longer than it may." in captured.err
    assert f"quantry jobs logs {OTHER_JOB_ID}" in captured.err
    assert len([request for request in server.requests if request.url.path == f"{JOB}/events"]) == 1


@pytest.mark.usefixtures("terminal")
def test_several_jobs_on_a_terminal(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_two(server)
    assert run("jobs", "watch", JOB_ID, OTHER_JOB_ID) == 1
    out = capsys.readouterr().out
    for words in ("job_..000001", "job_..000002", "42%", "job_..000002 [red]a note", "failed", "succeeded", "1 min 15 s"):
        assert words in out


@pytest.mark.usefixtures("terminal")
def test_a_bar_says_how_far_it_is(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    # What is drawn last is where the job is when Ctrl-C comes.
    running = event(1, EventKind.STATE, status="running", reason=None, message=None)
    stream = Interrupted(running, event(2, EventKind.PROGRESS, **LAYERS))
    server.on("GET", f"{JOB}/events", lambda _request: httpx.Response(200, stream=stream))
    assert run("jobs", "watch", JOB_ID) == 130
    out = capsys.readouterr().out
    assert "5/12 layers, 1.3 layers/s, 1 min 5 s left" in out
    assert "quantize" in out


def test_several_jobs_for_programs(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_two(server)
    assert run("jobs", "watch", JOB_ID, OTHER_JOB_ID, "--json") == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["seq"] for line in lines if line["job_id"] == JOB_ID] == [1, 2, 3]
    assert [line["seq"] for line in lines if line["job_id"] == OTHER_JOB_ID] == [1, 2]


def test_too_many_jobs_at_once(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("jobs", "watch", *(f"job_{number:032x}" for number in range(MAX_FOLLOWED + 1))) == 2
    assert str(MAX_FOLLOWED) in capsys.readouterr().err
    assert server.requests == []


def test_a_stream_that_fails_ends_the_watch_of_all() -> None:
    def broken() -> Iterator[JobEvent]:
        yield event(1, EventKind.NOTE)
        raise ServerUnreachable("http://quantry.test", "gone")

    with pytest.raises(ServerUnreachable, match="gone"):
        list(merged_events([iter([event(1, EventKind.NOTE, of=OTHER_JOB_ID)]), broken()]))


def test_ctrl_c_says_that_the_job_goes_on(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on(
        "GET", f"{JOB}/events", lambda _request: httpx.Response(200, stream=Interrupted(event(1, EventKind.NOTE, text="it has begun")))
    )
    assert run("jobs", "watch", JOB_ID) == 130
    captured = capsys.readouterr()
    assert "it has begun" in captured.out
    assert captured.err.splitlines() == [f"{JOB_ID} goes on. To stop it: quantry jobs cancel {JOB_ID}"]
    assert all(request.method == "GET" for request in server.requests)


def test_a_retry_is_shown_and_its_progress_begins_anew(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on(
        "GET",
        f"{JOB}/events",
        event_stream(
            event(1, EventKind.PROGRESS, phase="quantize", fraction=0.9),
            event(2, EventKind.STATE, status="queued", reason="worker_lost", message="the worker stopped answering"),
            event(3, EventKind.STATE, in_attempt=2, status="running", reason=None, message=None),
            event(4, EventKind.PROGRESS, in_attempt=2, phase="quantize", fraction=0.0),
            event(5, EventKind.PROGRESS, in_attempt=2, phase=7, fraction="nonsense"),
            event(6, EventKind.STATE, in_attempt=2, status="succeeded"),
        ),
    )
    server.on("GET", JOB, answer(succeeded()))
    assert run("jobs", "watch", JOB_ID) == 0
    words = [line.split(" ", 1)[1] for line in capsys.readouterr().out.splitlines()[:-1]]
    assert words == ["quantize  90%", "queued - worker_lost - the worker stopped answering", "running", "quantize   0%", "succeeded"]


@pytest.mark.parametrize(
    ("progress", "counts", "rate", "remaining"),
    [
        (LAYERS, "5/12 layers", "1.3 layers/s", "1 min 5 s left"),
        ({"unit": "bytes", "done": 1_500_000, "total": 11_546_984, "rate_per_s": 12_500_000.4}, "1.5 MB of 11.5 MB", "12.5 MB/s", ""),
        ({"unit": "layers", "done": 1, "total": 32, "rate_per_s": 0.05, "remaining_s": 0.0}, "1/32 layers", "20 s each", "0.0 s left"),
        ({"done": 3}, "3", "", ""),
        ({"total": 3, "unit": "windows"}, "", "", ""),
        ({"rate_per_s": 0.0}, "", "", ""),
    ],
)
def test_progress_in_words(progress: dict[str, object], counts: str, rate: str, remaining: str) -> None:
    told = Progress.model_validate({"phase": "p", "fraction": 0.5} | progress)
    assert (counts_text(told), rate_text(told), remaining_text(told)) == (counts, rate, remaining)


def test_progress_on_one_line() -> None:
    assert progress_text(Progress(phase="load", fraction=0, detail="bard")) == "load   0% bard"
    assert progress_text(Progress(phase="load", fraction=1)) == "load 100%"
    assert progress_of({"phase": "load", "fraction": 2}) is None


LOG = [
    event(1, EventKind.STATE, status="running"),
    event(2, EventKind.LOG, text="one"),
    event(3, EventKind.LOG, text="two"),
    event(5, EventKind.LOG, in_attempt=2, text="three"),
    event(6, EventKind.LOG, in_attempt=2, text="four"),
    event(7, EventKind.STATE, in_attempt=2, status="succeeded"),
]


def test_the_end_of_a_log(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", f"{JOB}/log", lambda _request: httpx.Response(200, text="four\n"))
    assert run("jobs", "logs", JOB_ID, "--attempt", "2", "--tail", "1") == 0
    assert capsys.readouterr().out == "four\n"
    assert dict(server.requests[0].url.params) == {"attempt": "2", "tail": "1"}


def test_a_log_without_a_line(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", f"{JOB}/log", lambda _request: httpx.Response(200, text=""))
    assert run("jobs", "logs", JOB_ID) == 0
    assert capsys.readouterr().out == ""


def test_a_log_has_a_terminal_do_nothing(server: FakeServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    line = "\x1b]0;another title\x07 50%\r100% \x9b2Jäö\tdone\n"
    server.on("GET", f"{JOB}/log", lambda _request: httpx.Response(200, text=line))
    assert run("jobs", "logs", JOB_ID) == 0
    assert capsys.readouterr().out == line, "a file gets all of it"
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run("jobs", "logs", JOB_ID) == 0
    assert capsys.readouterr().out == "]0;another title 50%100% 2Jäö\tdone\n"
    assert run("jobs", "logs", JOB_ID, "--json") == 0
    document = capsys.readouterr().out
    assert json.loads(document)["log"] == line
    assert not {"\x1b", "\x07", "\x9b"} & set(document)


def test_following_a_log(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", f"{JOB}/events", event_stream(*LOG))
    assert run("jobs", "logs", JOB_ID, "-f") == 0
    assert capsys.readouterr().out.splitlines() == ["--- attempt 1 ---", "one", "two", "--- attempt 2 ---", "three", "four"]
    assert server.requests[0].url.params.get_list("kind") == ["log", "state"]


def test_following_one_attempt(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("GET", f"{JOB}/events", event_stream(*LOG))
    assert run("jobs", "logs", JOB_ID, "-f", "--attempt", "2") == 0
    assert capsys.readouterr().out.splitlines() == ["--- attempt 2 ---", "three", "four"]


@pytest.mark.parametrize(
    ("there_already", "tail", "expected"),
    [
        ("--- attempt 1 ---\none\ntwo\n", 1, ["two", "--- attempt 2 ---", "three", "four"]),
        ("--- attempt 1 ---\none\ntwo\n--- attempt 2 ---\nthree\n", 2, ["two", "three", "four"]),
        ("--- attempt 1 ---\none\ntwo\n--- attempt 2 ---\nthree\nfour\n", 1, ["four"]),
        ("", 3, ["--- attempt 1 ---", "one", "two", "--- attempt 2 ---", "three", "four"]),
    ],
)
def test_following_from_the_end_of_a_log(
    server: FakeServer, capsys: pytest.CaptureFixture[str], there_already: str, tail: int, expected: list[str]
) -> None:
    server.on("GET", f"{JOB}/log", lambda _request: httpx.Response(200, text=there_already))
    server.on("GET", f"{JOB}/events", event_stream(*LOG))
    assert run("jobs", "logs", JOB_ID, "-f", "--tail", str(tail)) == 0
    assert capsys.readouterr().out.splitlines() == expected


def test_following_a_log_for_programs_over_a_broken_connection(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    first = httpx.Response(200, stream=Pieces(event_bytes(*LOG[:3])))
    server.on("GET", f"{JOB}/events", lambda _request: first, failing(httpx.ConnectError), event_stream(*LOG[3:]))
    server.on("GET", JOB, answer(job(JobStatus.RUNNING)))
    assert run("jobs", "logs", JOB_ID, "-f", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["data"]["text"] for line in lines] == ["one", "two", "three", "four"]
    assert server.requests[-1].headers["last-event-id"] == "3"
