"""The gate's checks: one literal table, in the order in which they run.

Names, not functions: the later checks load models with libraries that take seconds to import. Each says every problem it found,
and one that breaks off has found one too: whatever a library raises over a checkpoint speaks against the checkpoint.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import cast

from quantry_core.errors import QuantryError
from quantry_core.gate import GateCheck, required_checks
from quantry_core.versions import EvidenceDraft
from quantry_worker.child.failures import is_of_machine
from quantry_worker.child.gate.findings import GateInput, evidence
from quantry_worker.child.libraries import load

MAX_PROBLEM_CHARS = 500

Check = Callable[[GateInput], EvidenceDraft]

CHECKS: dict[GateCheck, tuple[str, str]] = {
    GateCheck.FILES: ("quantry_worker.child.gate.files", "check_files"),
    GateCheck.TENSORS: ("quantry_worker.child.gate.tensors", "check_tensors"),
    GateCheck.PRECISION: ("quantry_worker.child.gate.precision", "check_precision"),
    GateCheck.FUSED_GROUPS: ("quantry_worker.child.gate.fused_groups", "check_fused_groups"),
    GateCheck.SCALES: ("quantry_worker.child.gate.scales", "check_scales"),
    GateCheck.KV_SCALES: ("quantry_worker.child.gate.kv_scales", "check_kv_scales"),
    GateCheck.RECONSTRUCTION: ("quantry_worker.child.gate.reconstruction", "check_reconstruction"),
    GateCheck.READER: ("quantry_worker.child.gate.reader", "check_reader"),
    GateCheck.ENGINE: ("quantry_worker.child.gate.engine", "check_engine"),
    GateCheck.QUALITY: ("quantry_worker.child.gate.quality", "check_quality"),
}
"""Module and function of each."""


def due_checks(given: GateInput) -> list[GateCheck]:
    """Returns the checks that a job needs, in their order: those without which nothing is ready, and vLLM where one is at hand."""
    due = set(required_checks(given.plan.spec.quality))
    if given.task.checks_with_engine:
        due.add(GateCheck.ENGINE)
    return [check for check in CHECKS if check in due]


def run_gate(given: GateInput, checks: Iterable[GateCheck]) -> list[EvidenceDraft]:
    """Returns the evidence of each check. One that cannot even read the checkpoint fails; the rest still runs.

    Raises what a check raised for want of memory or disk: that says nothing of the checkpoint.
    """
    names = list(checks)
    return [_run(name, given, index, len(names)) for index, name in enumerate(names)]


def _run(name: GateCheck, given: GateInput, index: int, num_checks: int) -> EvidenceDraft:
    given.on_progress(index / num_checks, name)
    within = replace(given, on_progress=lambda share, detail: given.on_progress((index + share) / num_checks, detail))
    module, function = CHECKS[name]
    check = cast(Check, getattr(load(module), function))
    try:
        return check(within)
    except QuantryError as error:
        problem = error.detail
    except Exception as error:
        if is_of_machine(error):
            raise
        traceback.print_exc()
        problem = f"the check broke off: {type(error).__name__}: {error}"[:MAX_PROBLEM_CHARS]
    return evidence(name, [problem], {})
