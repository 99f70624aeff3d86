"""What the checks of the gate are given, and how they say what they found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import CheckpointInfo
from quantry_core.versions import EvidenceDraft, EvidenceKind, Verdict
from quantry_worker.child.plan import QuantizationPlan

MAX_PROBLEMS = 20


@dataclass(frozen=True)
class GateInput:
    """A quantized checkpoint on disk, what was asked for, and the master it was made from."""

    output_dir: Path
    plan: QuantizationPlan
    master: CheckpointInfo
    master_dir: Path

    @property
    def output(self) -> DirectoryCheckpoint:
        return DirectoryCheckpoint(self.output_dir)

    @property
    def original(self) -> DirectoryCheckpoint:
        return DirectoryCheckpoint(self.master_dir)


def evidence(name: str, problems: list[str], metrics: dict[str, Any]) -> EvidenceDraft:
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
