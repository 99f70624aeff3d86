"""What a child's end means for its job. Pure functions."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from quantry_core.execution import FinishRequest, Outcome
from quantry_core.jobs import REASONS, JobReason, JobStatus
from quantry_core.versions import VersionState
from quantry_worker.child_process import ChildExit
from quantry_worker.guard import StopReason
from quantry_worker.lines import clean_text
from quantry_worker.protocol import ChildFailure

MAX_MESSAGE_CHARS = 4000
MAX_TAIL_CHARS = 2500


@dataclass(frozen=True)
class Ending:
    """How an attempt ends, before the version is added to it."""

    outcome: Outcome
    reason: JobReason
    message: str | None = None

    def request(self, attempt: int) -> FinishRequest:
        """Returns this as a request without version, evidence or numbers."""
        message = None if self.message is None else clean_text(self.message, MAX_MESSAGE_CHARS)
        return FinishRequest(attempt=attempt, outcome=self.outcome, reason=self.reason, message=message)


def ending_of(child: ChildExit) -> Ending:
    """Returns what a child that was not stopped by its supervisor means for the job.

    A signal that the supervisor did not send loses the attempt: the job is tried again, up to its limit.
    """
    if child.broken_protocol is not None:
        return _internal(f"the child process broke the protocol: {child.broken_protocol}", child)
    if child.failure is not None:
        return _ending_of_failure(child.failure, child)
    if child.return_code < 0:
        return Ending(Outcome.LOST, JobReason.WORKER_LOST, _with_tail(_killed_sentence(child), child))
    if child.return_code > 0 or child.result is None:
        presence = "without" if child.result is None else "after"
        return _internal(f"the child process ended with exit status {child.return_code} {presence} a result", child)
    if child.result.version is not None and child.result.version.state is not VersionState.READY:
        return Ending(Outcome.FAILED, JobReason.GATE_FAILED, "the result did not pass its gate and is kept as quarantined")
    return Ending(Outcome.SUCCEEDED, JobReason.COMPLETED)


def _ending_of_failure(failure: ChildFailure, child: ChildExit) -> Ending:
    if REASONS[failure.reason].final_status is not JobStatus.FAILED:
        return _internal(f"the child process reported a failure with the reason {failure.reason}: {failure.message}", child)
    return Ending(Outcome.FAILED, failure.reason, failure.message)


def ending_of_stop(reason: StopReason) -> Ending | None:
    """Returns what a stopped attempt means for its job; None if the attempt lost the job and may not say anything."""
    match reason:
        case StopReason.STALE | StopReason.LEASE_LOST:
            return None
        case StopReason.CANCELLED:
            return Ending(Outcome.CANCELLED, JobReason.CANCELLED, "cancelled while it was running")
        case StopReason.DRAINING:
            return Ending(Outcome.RELEASED, JobReason.WORKER_LOST, "the worker was shut down; the job is handed back")


def _killed_sentence(child: ChildExit) -> str:
    number = -child.return_code
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    sentence = f"the child process was killed by {name}"
    if number == signal.SIGKILL and child.num_oom_kills > 0:
        gigabytes = child.peak_memory_bytes / 1e9
        sentence += (
            f"; the kernel killed {child.num_oom_kills} of this worker's processes for memory meanwhile, so it probably ran out of it"
            f" (last seen with {gigabytes:.1f} GB)"
        )
    return sentence


def _internal(sentence: str, child: ChildExit) -> Ending:
    return Ending(Outcome.FAILED, JobReason.INTERNAL, _with_tail(sentence, child))


def _with_tail(sentence: str, child: ChildExit) -> str:
    if not child.tail:
        return sentence
    tail = "\n".join(child.tail)
    return f"{sentence[: MAX_MESSAGE_CHARS - MAX_TAIL_CHARS - 50]}\nlast log lines:\n{tail[-MAX_TAIL_CHARS:]}"
