"""Which reason an exception of a recipe is, and the words for the user."""

from __future__ import annotations

from quantry_core.errors import QuantryError
from quantry_core.jobs import JobReason
from quantry_worker.disk import full_disk_words
from quantry_worker.protocol import MAX_FAILURE_CHARS, ChildFailure

_OUT_OF_MEMORY_TYPES = frozenset({"OutOfMemoryError", "MemoryError"})
_OUT_OF_MEMORY_WORDS = ("DefaultCPUAllocator: can't allocate memory", "DefaultCPUAllocator: not enough memory")
"""torch raises a plain RuntimeError with these words when the machine's own memory is spent."""


class Diverged(Exception):
    """A number that must be finite is not: weights, losses or scales."""


def failure_of(error: Exception) -> ChildFailure:
    """Returns the failure to report: what the user gave (4xx errors), numbers, memory, or our own fault."""
    match error:
        case QuantryError() if error.status < 500:
            return _failure(JobReason.INVALID_INPUT, error.detail)
        case Diverged():
            return _failure(JobReason.DIVERGED, str(error))
        case _ if is_out_of_memory(error):
            return _failure(JobReason.OUT_OF_MEMORY, f"the job ran out of memory: {error}")
        case _ if (words := full_disk_words(error)) is not None:
            return _failure(JobReason.INTERNAL, words)
        case _:
            return _failure(JobReason.INTERNAL, f"{type(error).__name__}: {error}")


def is_of_machine(error: Exception) -> bool:
    """Tells whether an exception says that the machine's memory or disk are spent: on another machine it might not come."""
    return is_out_of_memory(error) or full_disk_words(error) is not None


def is_out_of_memory(error: Exception) -> bool:
    """Tells whether an exception says that memory, the machine's or a device's, is spent."""
    # By name: this module must not import torch.
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(names & _OUT_OF_MEMORY_TYPES) or any(words in str(error) for words in _OUT_OF_MEMORY_WORDS)


def _failure(reason: JobReason, message: str) -> ChildFailure:
    return ChildFailure(reason=reason, message=message[:MAX_FAILURE_CHARS])
