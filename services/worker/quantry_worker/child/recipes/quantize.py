"""Makes a quantized version from a 16-bit master, and puts it through the gate.

What can be refused is refused from headers and text alone, before a library that loads weights is imported.
"""

from __future__ import annotations

import shutil
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import CheckpointInfo, check_master, inspect_checkpoint
from quantry_core.gate import lets_pass, required_checks
from quantry_core.jobs import InputRole, QuantizeSpec, written_out
from quantry_core.versions import EvidenceDraft, VersionKind, VersionState
from quantry_worker.child.backends.table import BackendProgress, QuantizationOrder, QuantizationReport, load_backend
from quantry_worker.child.evaluation.sizes import weights_bytes
from quantry_worker.child.failures import Diverged
from quantry_worker.child.gate.findings import GateInput
from quantry_worker.child.gate.table import due_checks, run_gate
from quantry_worker.child.inputs import inputs_of, only_input
from quantry_worker.child.numerics.tensors import TensorReader, nonfinite_tensors
from quantry_worker.child.numerics.text import SamplingReport, Tokens, calibration_report, sample_windows
from quantry_worker.child.numerics.tokenizer import tokenize
from quantry_worker.child.plan import QuantizationPlan, carried_files, names_in_words, plan_quantization
from quantry_worker.child.reporter import Reporter, Units
from quantry_worker.protocol import ChildInput, ChildResult, ChildTask, ChildVersion

FILE_MODE = 0o644
HARNESS = "quantry_worker.child.evaluation.harness"
"""A name: it imports libraries that take seconds, and only tasks need it."""
READING, QUANTIZING, GATE = 0.02, 0.1, 0.8
"""Share of the work at which each phase begins."""


def run(task: ChildTask, reporter: Reporter) -> ChildResult:
    """Returns the quantized version, quarantined if it fails the gate, with the gate's evidence.

    Raises InvalidInput for what cannot be quantized, calibrated or served so; Diverged for weights that are not finite.
    """
    if not isinstance(task.spec, QuantizeSpec):
        raise TypeError(f"the quantize recipe got a {task.spec.type} job")
    started = time.monotonic()
    base = only_input(task, InputRole.BASE)
    reporter.progress("checking", 0.0, base.ref)
    checkpoint = DirectoryCheckpoint(base.path)
    master = inspect_checkpoint(checkpoint)
    check_master(master)
    plan = plan_quantization(task.spec, master)
    check_tasks(task.spec)
    check_finite(TensorReader(checkpoint, master), master)

    reporter.progress("reading calibration text", READING)
    windows, sampling = calibration_windows(task.spec, base, inputs_of(task, InputRole.CALIBRATION))

    reporter.progress("quantizing", QUANTIZING, "loading")
    order = QuantizationOrder(
        plan=plan,
        master=master,
        master_dir=base.path,
        output_dir=task.output_dir,
        windows=windows,
        seed=0 if task.spec.calibration is None else task.spec.calibration.seed,
        num_threads=task.num_threads,
        on_progress=_within(reporter, "quantizing", QUANTIZING, GATE),
    )
    report = load_backend(plan.method.backend)(order)
    for note in report.notes:
        reporter.note(note)
    carry_over(base.path, task.output_dir)
    quantized_s = time.monotonic() - started

    given = GateInput(
        output_dir=task.output_dir,
        plan=plan,
        master=master,
        master_dir=base.path,
        task=task,
        on_progress=lambda share, detail: reporter.progress("gate", GATE + (1 - GATE) * share, detail),
    )
    evidence = run_gate(given, due_checks(given))
    return ChildResult(
        version=_version(plan, report, sampling, evidence),
        evidence=evidence,
        metrics=_metrics(report, windows, master, task.output_dir)
        | {"quantize_s": quantized_s, "gate_s": time.monotonic() - started - quantized_s},
    )


def check_finite(reader: TensorReader, master: CheckpointInfo) -> None:
    """Raises Diverged naming the master's tensors that hold an infinity or NaN."""
    broken = nonfinite_tensors(reader, master)
    if broken:
        raise Diverged(f"the master holds infinities or NaN in {names_in_words(broken)}: nothing can be fitted to it")


def check_tasks(spec: QuantizeSpec) -> None:
    """Raises InvalidInput naming a task of the quality gate that is not known or not on this machine."""
    if spec.quality is not None and spec.quality.tasks is not None:
        import_module(HARNESS).load_tasks(spec.quality.tasks)


def calibration_windows(spec: QuantizeSpec, base: ChildInput, datasets: list[ChildInput]) -> tuple[Tokens | None, SamplingReport | None]:
    """Returns the calibration samples, shape [num_samples, length_tokens], and how they were drawn; None for a method that needs none.

    Raises InvalidInput if the text is too short.
    """
    calibration = spec.calibration
    if calibration is None:
        return None, None
    streams = tokenize(base.path, datasets)
    drawn: dict[str, int] = {
        "num_samples": calibration.num_samples,
        "length_tokens": calibration.length_tokens,
        "seed": calibration.seed,
    }
    return sample_windows(streams, **drawn), calibration_report(streams, **drawn)


def carry_over(master_dir: Path, output_dir: Path) -> None:
    """Copies what is no weight from the master (tokenizer, chat template, generation config, licence), and opens the modes."""
    master = DirectoryCheckpoint(master_dir)
    for name in carried_files(master.files()):
        target = output_dir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(master.path_of(name), target)
    for name in DirectoryCheckpoint(output_dir).files():
        # safetensors are written with mode 0600.
        (output_dir / name).chmod(FILE_MODE)


def _version(
    plan: QuantizationPlan, report: QuantizationReport, sampling: SamplingReport | None, evidence: list[EvidenceDraft]
) -> ChildVersion:
    form = plan.method.format
    # A check that said nothing has not let it pass; one that need not run must not fail.
    were_made = required_checks(plan.spec.quality) <= {one.name for one in evidence}
    has_passed = were_made and all(lets_pass(one.name, one.verdict, form) for one in evidence)
    return ChildVersion(
        kind=VersionKind.QUANTIZED,
        format=form,
        scheme=plan.scheme,
        state=VersionState.READY if has_passed else VersionState.QUARANTINED,
        recipe=_recipe(plan, report, sampling),
        toolchain=report.toolchain,
    )


def _recipe(plan: QuantizationPlan, report: QuantizationReport, sampling: SamplingReport | None) -> dict[str, Any]:
    """Returns the spec with every default of its method written out, how text was drawn, and what the backend chose itself."""
    drawn = {} if sampling is None else {"sampling": sampling.as_json()}
    return written_out(plan.spec).model_dump(mode="json") | drawn | {"backend": plan.method.backend, "settings": report.settings}


def _metrics(report: QuantizationReport, windows: Tokens | None, master: CheckpointInfo, output_dir: Path) -> dict[str, Any]:
    size = weights_bytes(output_dir)
    return report.metrics | {
        "num_calibration_tokens": 0 if windows is None else int(windows.size),
        "weights_bytes": size,
        "weights_ratio": size / master.weights_bytes,
    }


def _within(reporter: Reporter, phase: str, begin: float, end: float) -> BackendProgress:
    def on_progress(share: float, detail: str, layers: Units | None = None) -> None:
        reporter.progress(phase, begin + (end - begin) * share, detail, layers)

    return on_progress
