"""The gate's checks: one literal table, in the order in which they run.

Each is a pure function on headers and a few reads; it returns evidence with a verdict and says every problem it found.
"""

from __future__ import annotations

from collections.abc import Callable

from quantry_core.errors import QuantryError
from quantry_core.versions import EvidenceDraft, EvidenceKind, Verdict
from quantry_worker.child.gate.findings import GateInput
from quantry_worker.child.gate.integrity import check_integrity
from quantry_worker.child.gate.precision import check_precision

Check = Callable[[GateInput], EvidenceDraft]

CHECKS: dict[str, Check] = {
    "integrity": check_integrity,
    "precision": check_precision,
}


def run_gate(given: GateInput) -> list[EvidenceDraft]:
    """Returns the evidence of every check. A check that cannot even read the checkpoint fails; the rest still runs."""
    return [_run(name, check, given) for name, check in CHECKS.items()]


def _run(name: str, check: Check, given: GateInput) -> EvidenceDraft:
    try:
        return check(given)
    except QuantryError as error:
        return EvidenceDraft(kind=EvidenceKind.GATE, name=name, verdict=Verdict.FAIL, metrics={"problems": [error.detail]})
