"""What becomes of a check that breaks off: by name, in the table, with checks that raise."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest

from quantry_core.checkpoints import CheckpointInfo
from quantry_core.errors import SourceRefused
from quantry_core.gate import GateCheck
from quantry_core.versions import EvidenceDraft, Verdict
from quantry_worker.child.gate import table
from quantry_worker.child.gate.findings import GateInput, evidence, not_asked
from quantry_worker.child.gate.table import run_gate
from quantry_worker.child.plan import QuantizationPlan
from quantry_worker.protocol import ChildTask


@pytest.fixture
def given(tmp_path: Path) -> GateInput:
    """Nothing of it is looked at here but where progress goes."""
    return GateInput(
        output_dir=tmp_path,
        plan=cast(QuantizationPlan, None),
        master=cast(CheckpointInfo, None),
        master_dir=tmp_path,
        task=cast(ChildTask, None),
    )


def raising(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Makes the check ``files`` raise, and ``tensors`` pass."""

    def check_files(_given: GateInput) -> EvidenceDraft:
        raise error

    def check_tensors(_given: GateInput) -> EvidenceDraft:
        return evidence(GateCheck.TENSORS, [], {})

    module = ModuleType("made_up_checks")
    module.__dict__.update(check_files=check_files, check_tensors=check_tensors)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for check in (GateCheck.FILES, GateCheck.TENSORS):
        monkeypatch.setitem(table.CHECKS, check, (module.__name__, f"check_{check}"))


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (SourceRefused("there is no config.json"), "there is no config.json"),
        (KeyError("down_proj"), "the check broke off: KeyError: 'down_proj'"),
        (RuntimeError("size mismatch " + "x" * 9000), "the check broke off: RuntimeError: size mismatch xx"),
    ],
)
def test_a_check_that_breaks_off_fails_and_the_others_still_run(
    given: GateInput, monkeypatch: pytest.MonkeyPatch, error: Exception, problem: str
) -> None:
    raising(monkeypatch, error)
    broken, other = run_gate(given, [GateCheck.FILES, GateCheck.TENSORS])
    assert (broken.name, broken.verdict) == (GateCheck.FILES, Verdict.FAIL)
    assert broken.metrics["problems"][0].startswith(problem)
    assert len(broken.metrics["problems"][0]) <= table.MAX_PROBLEM_CHARS
    assert (other.name, other.verdict) == (GateCheck.TENSORS, Verdict.PASS)


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOSPC, "No space left on device")])
def test_what_the_machine_lacks_speaks_not_against_the_checkpoint(
    given: GateInput, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    raising(monkeypatch, error)
    with pytest.raises(type(error)):
        run_gate(given, [GateCheck.FILES, GateCheck.TENSORS])


def test_no_data_is_no_pass() -> None:
    draft = not_asked(GateCheck.ENGINE, {"not_served": "no engine"})
    assert (draft.verdict, draft.metrics["not_served"]) == (Verdict.INCONCLUSIVE, "no engine")
