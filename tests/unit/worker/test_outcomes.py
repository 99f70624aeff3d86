from __future__ import annotations

import signal

import pytest

from quantry_core.execution import Outcome
from quantry_core.jobs import REASONS, JobReason, JobStatus
from quantry_core.methods import Format
from quantry_core.versions import VersionKind, VersionState
from quantry_worker.child_process import ChildExit
from quantry_worker.guard import StopReason
from quantry_worker.outcomes import MAX_MESSAGE_CHARS, ending_of, ending_of_stop
from quantry_worker.protocol import ChildFailure, ChildResult, ChildVersion


def version(state: VersionState) -> ChildVersion:
    return ChildVersion(kind=VersionKind.QUANTIZED, format=Format.COMPRESSED_TENSORS, state=state)


FAILURE = ChildFailure(reason=JobReason.DIVERGED, message="not a number in layer 3")


@pytest.mark.parametrize(
    ("child", "outcome", "reason"),
    [
        (ChildExit(0, result=ChildResult()), Outcome.SUCCEEDED, JobReason.COMPLETED),
        (ChildExit(0, result=ChildResult(version=version(VersionState.READY))), Outcome.SUCCEEDED, JobReason.COMPLETED),
        (ChildExit(0, result=ChildResult(version=version(VersionState.QUARANTINED))), Outcome.FAILED, JobReason.GATE_FAILED),
        (ChildExit(0, failure=FAILURE), Outcome.FAILED, JobReason.DIVERGED),
        (ChildExit(1, failure=FAILURE), Outcome.FAILED, JobReason.DIVERGED),
        (ChildExit(-signal.SIGSEGV, failure=FAILURE), Outcome.FAILED, JobReason.DIVERGED),
        (ChildExit(0), Outcome.FAILED, JobReason.INTERNAL),
        (ChildExit(1), Outcome.FAILED, JobReason.INTERNAL),
        (ChildExit(1, result=ChildResult()), Outcome.FAILED, JobReason.INTERNAL),
        (ChildExit(-signal.SIGKILL), Outcome.LOST, JobReason.WORKER_LOST),
        (ChildExit(-signal.SIGSEGV), Outcome.LOST, JobReason.WORKER_LOST),
        (ChildExit(-signal.SIGKILL, result=ChildResult()), Outcome.LOST, JobReason.WORKER_LOST),
        (ChildExit(-signal.SIGKILL, broken_protocol="b'x' is not an event"), Outcome.FAILED, JobReason.INTERNAL),
    ],
)
def test_what_a_childs_end_means(child: ChildExit, outcome: Outcome, reason: JobReason) -> None:
    ending = ending_of(child)
    assert (ending.outcome, ending.reason) == (outcome, reason)


def test_the_childs_own_words_are_the_message() -> None:
    assert ending_of(ChildExit(0, failure=FAILURE)).message == FAILURE.message


@pytest.mark.parametrize("reason", [reason for reason in JobReason if REASONS[reason].final_status is not JobStatus.FAILED])
def test_a_failure_cannot_call_itself_a_success(reason: JobReason) -> None:
    ending = ending_of(ChildExit(0, failure=ChildFailure(reason=reason, message="well")))
    assert (ending.outcome, ending.reason) == (Outcome.FAILED, JobReason.INTERNAL)


def test_the_last_log_lines_are_in_the_message_of_a_crash() -> None:
    message = ending_of(ChildExit(3, tail=("Traceback", "ValueError: no such layer"))).message or ""
    assert "exit status 3" in message
    assert message.endswith("Traceback\nValueError: no such layer")


def test_the_message_fits_whatever_the_child_said() -> None:
    ending = ending_of(ChildExit(-9, tail=("x" * 2000,) * 20, broken_protocol="y" * 9000))
    assert len(ending.request(1).message or "") <= MAX_MESSAGE_CHARS


def test_nul_never_reaches_the_database() -> None:
    request = ending_of(ChildExit(0, failure=ChildFailure(reason=JobReason.INTERNAL, message="a\0b"))).request(1)
    assert "\0" not in (request.message or "")


def test_a_kill_by_the_kernel_for_memory_is_no_lost_worker() -> None:
    ending = ending_of(ChildExit(-signal.SIGKILL, num_oom_kills=1, peak_memory_bytes=800 * 1024**2, tail=("layer 3",)))
    assert (ending.outcome, ending.reason) == (Outcome.FAILED, JobReason.OUT_OF_MEMORY)
    assert "800 MiB" in (ending.message or "")
    assert "layer 3" in (ending.message or "")


def test_memory_is_named_only_with_evidence() -> None:
    assert "memory" not in (ending_of(ChildExit(-signal.SIGKILL)).message or "")
    crash = ending_of(ChildExit(-signal.SIGSEGV, num_oom_kills=1))
    assert (crash.outcome, crash.reason) == (Outcome.LOST, JobReason.WORKER_LOST)
    assert "memory" not in (crash.message or "")


def test_every_stop_has_its_meaning() -> None:
    meanings = {reason: (ending.outcome, ending.reason) if (ending := ending_of_stop(reason)) else None for reason in StopReason}
    assert meanings == {
        StopReason.STALE: None,
        StopReason.LEASE_LOST: None,
        StopReason.CANCELLED: (Outcome.CANCELLED, JobReason.CANCELLED),
        StopReason.TIMED_OUT: (Outcome.FAILED, JobReason.TIMED_OUT),
        StopReason.OUT_OF_MEMORY: (Outcome.FAILED, JobReason.OUT_OF_MEMORY),
        StopReason.DRAINING: (Outcome.RELEASED, JobReason.WORKER_LOST),
    }


@pytest.mark.parametrize("reason", [StopReason.TIMED_OUT, StopReason.OUT_OF_MEMORY])
def test_a_limit_that_was_passed_is_named(reason: StopReason) -> None:
    ending = ending_of_stop(reason, "it took 7 s, longer than its limit of 5 s")
    assert ending is not None
    assert "it took 7 s, longer than its limit of 5 s" in (ending.message or "")
