"""What the checks of the gate are given, and how they say what they found."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import CheckpointInfo
from quantry_core.families import family_of
from quantry_core.gate import GateCheck
from quantry_core.versions import EvidenceDraft, EvidenceKind, Verdict
from quantry_worker.child.formats.stored import Float32, StoredCheckpoint
from quantry_worker.child.formats.table import open_stored
from quantry_worker.child.numerics.tensors import TensorReader
from quantry_worker.child.plan import QuantizationPlan
from quantry_worker.protocol import ChildTask

MAX_PROBLEMS = 20

RowReader = Callable[[int, int], Float32]
"""Returns ``count`` rows of a weight from row ``start``, shape [count, in]."""

GateProgress = Callable[[float, str], None]
"""Hears the share of the gate that is done, from 0 to 1, and the check that runs."""


def _nobody(_share: float, _detail: str) -> None:
    """Nobody wants to know."""


@dataclass(frozen=True)
class GateInput:
    """A quantized checkpoint on disk, what was asked for, the master it was made from, and the job it is checked in."""

    output_dir: Path
    plan: QuantizationPlan
    master: CheckpointInfo
    master_dir: Path
    task: ChildTask
    """Of it: the texts that quality is measured on, the number of threads, whether there is an engine, the folder for artifacts."""
    on_progress: GateProgress = _nobody

    @cached_property
    def output(self) -> DirectoryCheckpoint:
        return DirectoryCheckpoint(self.output_dir)

    @cached_property
    def original(self) -> DirectoryCheckpoint:
        return DirectoryCheckpoint(self.master_dir)

    @cached_property
    def master_reader(self) -> TensorReader:
        return TensorReader(self.original, self.master)

    def original_weight(self, module: str) -> RowReader:
        """Returns what reads rows of a module's weight in the master, as (out, in) whichever way round the family stores it."""
        name = f"{module}.weight"
        if module.rpartition(".")[2] not in family_of(self.master.config).transposed:
            return lambda start, count: self.master_reader.float_rows(name, start, count)
        whole = self.master_reader.floats(name).T
        return lambda start, count: whole[start : start + count]

    @property
    def stored(self) -> StoredCheckpoint:
        """What the checkpoint's format makes of its files; raises SourceRefused if it cannot be read at all."""
        return open_stored(self.plan.method.format, self.output, self.master)


def not_asked(name: GateCheck, reasons: dict[str, Any]) -> EvidenceDraft:
    """Returns the evidence of a check that could not be made, with its reasons: no data is no pass."""
    return EvidenceDraft(
        kind=EvidenceKind.GATE, name=name, verdict=Verdict.INCONCLUSIVE, metrics=reasons | {"num_problems": 0, "problems": []}
    )


def evidence(name: GateCheck, problems: list[str], metrics: dict[str, Any]) -> EvidenceDraft:
    """Returns a check's evidence: it passes if there is no problem. The first 20 problems are kept in words.

    A metric that is infinite or NaN becomes None: JSON has no such numbers.
    """
    finite = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in metrics.items()}
    return EvidenceDraft(
        kind=EvidenceKind.GATE,
        name=name,
        verdict=Verdict.FAIL if problems else Verdict.PASS,
        metrics=finite | {"num_problems": len(problems), "problems": problems[:MAX_PROBLEMS]},
    )
