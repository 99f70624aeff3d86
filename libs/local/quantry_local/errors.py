"""The one error of the embedded stack."""

from __future__ import annotations


class StackError(Exception):
    """The stack cannot start, run or stop; the message is a sentence that says what happened and what to do."""
