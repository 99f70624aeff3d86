"""Trains an adapter beside a frozen base, or all weights of a 16-bit one. In one process here, in several by ``distributed``."""

from __future__ import annotations

from importlib import import_module

from quantry_core.jobs import FinetuneSpec
from quantry_worker.child.reporter import Reporter
from quantry_worker.child.training.process import train
from quantry_worker.protocol import ChildResult, ChildTask

DISTRIBUTED = "quantry_worker.child.training.distributed"
"""A name: its libraries are needed by jobs of several processes alone."""


def run(task: ChildTask, reporter: Reporter) -> ChildResult:
    """Returns the trained version with its evidence: what was held out, before and after, and text that was never learned.

    Raises InvalidInput for what cannot be learned, Diverged for a loss or a gradient that is not finite.
    """
    if not isinstance(task.spec, FinetuneSpec):
        raise TypeError(f"the finetune recipe got a {task.spec.type} job")
    if task.spec.distributed is None:
        return train(task, reporter)
    result: ChildResult = import_module(DISTRIBUTED).run(task, reporter)
    return result
