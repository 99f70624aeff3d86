"""What a child's end means for its job. Pure functions."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from quantry_core.execution import FinishRequest, Outcome
from quantry_core.gate import lets_pass
from quantry_core.jobs import REASONS, JobReason, JobStatus
from quantry_core.versions import EvidenceDraft, EvidenceKind, VersionState
from quantry_worker.child_process import ChildExit
from quantry_worker.guard import StopReason
from quantry_worker.lines import clean_text
from quantry_worker.protocol import ChildFailure, ChildVersion

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

    A signal that the supervisor did not send loses the attempt: the job is tried again, up to its limit. Where the kernel says
    that it killed for memory meanwhile, the attempt failed for want of it.
    """
    if child.broken_protocol is not None:
        return _internal(f"the child process broke the protocol: {child.broken_protocol}", child)
    if child.failure is not None:
        return _ending_of_failure(child.failure, child)
    if child.return_code < 0:
        return _ending_of_signal(child)
    if child.return_code > 0 or child.result is None:
        presence = "without" if child.result is None else "after"
        return _internal(f"the child process ended with exit status {child.return_code} {presence} a result", child)
    if child.result.version is not None and child.result.version.state is not VersionState.READY:
        return Ending(Outcome.FAILED, JobReason.GATE_FAILED, _gate_sentence(child.result.evidence, child.result.version))
    return Ending(Outcome.SUCCEEDED, JobReason.COMPLETED)


def _gate_sentence(evidence: list[EvidenceDraft], version: ChildVersion) -> str:
    """Returns which checks a version did not pass, each with the first thing it found."""
    failed = [one for one in evidence if one.kind is EvidenceKind.GATE and not lets_pass(one.name, one.verdict, version.format)]
    found = [f"{one.name}: {next(iter(one.metrics.get('problems') or []), one.verdict)}" for one in failed]
    return f"the result did not pass its gate and is kept as quarantined: {'; '.join(found) or 'not every check was made'}"


def _ending_of_signal(child: ChildExit) -> Ending:
    if child.return_code == -signal.SIGKILL and child.num_oom_kills > 0:
        return Ending(Outcome.FAILED, JobReason.OUT_OF_MEMORY, _with_tail(_out_of_memory_sentence(child), child))
    return Ending(Outcome.LOST, JobReason.WORKER_LOST, _with_tail(_killed_sentence(child), child))


def _ending_of_failure(failure: ChildFailure, child: ChildExit) -> Ending:
    if REASONS[failure.reason].final_status is not JobStatus.FAILED:
        return _internal(f"the child process reported a failure with the reason {failure.reason}: {failure.message}", child)
    return Ending(Outcome.FAILED, failure.reason, failure.message)


def ending_of_stop(reason: StopReason, words: str = "") -> Ending | None:
    """Returns what a stopped attempt means for its job; None if the attempt lost the job and may not say anything.

    ``words`` are the guard's: which limit was passed, and by what.
    """
    match reason:
        case StopReason.STALE | StopReason.LEASE_LOST:
            return None
        case StopReason.CANCELLED:
            return Ending(Outcome.CANCELLED, JobReason.CANCELLED, "cancelled while it was running")
        case StopReason.TIMED_OUT:
            return Ending(Outcome.FAILED, JobReason.TIMED_OUT, f"the attempt was stopped: {words}")
        case StopReason.OUT_OF_MEMORY:
            return Ending(Outcome.FAILED, JobReason.OUT_OF_MEMORY, f"the job was stopped: {words}")
        case StopReason.DRAINING:
            return Ending(Outcome.RELEASED, JobReason.WORKER_LOST, "the worker was shut down; the job is handed back")


def _killed_sentence(child: ChildExit) -> str:
    number = -child.return_code
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    return f"the child process was killed by {name}"


def _out_of_memory_sentence(child: ChildExit) -> str:
    return (
        "the kernel killed the child process because the memory was spent: it killed "
        f"{child.num_oom_kills} of this worker's processes for that meanwhile; the job was last seen with "
        f"{child.peak_memory_bytes / 1024**2:.0f} MiB"
    )


def _internal(sentence: str, child: ChildExit) -> Ending:
    return Ending(Outcome.FAILED, JobReason.INTERNAL, _with_tail(sentence, child))


def _with_tail(sentence: str, child: ChildExit) -> str:
    if not child.tail:
        return sentence
    tail = "\n".join(child.tail)
    return f"{sentence[: MAX_MESSAGE_CHARS - MAX_TAIL_CHARS - 50]}\nlast log lines:\n{tail[-MAX_TAIL_CHARS:]}"
