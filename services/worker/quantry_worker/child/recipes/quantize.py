"""Makes a quantized version from a 16-bit master, and puts it through the gate.

What can be refused is refused from headers and text alone, before a library that loads weights is imported.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import CheckpointInfo, check_master, inspect_checkpoint
from quantry_core.jobs import InputRole, QuantizeSpec
from quantry_core.versions import EvidenceDraft, Verdict, VersionKind, VersionState
from quantry_worker.child.backends.table import BackendProgress, QuantizationOrder, QuantizationReport, load_backend
from quantry_worker.child.failures import Diverged
from quantry_worker.child.gate.findings import GateInput
from quantry_worker.child.gate.table import run_gate
from quantry_worker.child.inputs import inputs_of, only_input
from quantry_worker.child.numerics.tensors import TensorReader, nonfinite_tensors
from quantry_worker.child.numerics.text import Tokens, check_length, sample_windows
from quantry_worker.child.numerics.tokenizer import tokenize
from quantry_worker.child.plan import QuantizationPlan, carried_files, names_in_words, plan_quantization, unmatched_patterns
from quantry_worker.child.reporter import Reporter, Units
from quantry_worker.protocol import ChildInput, ChildResult, ChildTask, ChildVersion

FILE_MODE = 0o644
READING, QUANTIZING, GATE = 0.02, 0.1, 0.93
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
    for pattern in unmatched_patterns(plan):
        reporter.note(f"ignore: {pattern!r} names no module of {base.ref}")
    check_length(task.spec.calibration.length_tokens, master.config, field="calibration.length_tokens")
    check_finite(TensorReader(checkpoint, master), master)

    reporter.progress("reading calibration text", READING)
    windows = calibration_windows(task.spec, base, inputs_of(task, InputRole.CALIBRATION))

    reporter.progress("quantizing", QUANTIZING, "loading")
    order = QuantizationOrder(
        plan=plan,
        master=master,
        master_dir=base.path,
        output_dir=task.output_dir,
        windows=windows,
        seed=task.spec.calibration.seed,
        num_threads=task.num_threads,
        on_progress=_within(reporter, "quantizing", QUANTIZING, GATE),
    )
    report = load_backend(plan.method.backend)(order)
    for note in report.notes:
        reporter.note(note)
    carry_over(base.path, task.output_dir)
    quantized_s = time.monotonic() - started

    reporter.progress("gate", GATE)
    evidence = run_gate(GateInput(output_dir=task.output_dir, plan=plan, master=master, master_dir=base.path))
    return ChildResult(
        version=_version(task.spec, plan, report, evidence),
        evidence=evidence,
        metrics=_metrics(report, windows, master, task.output_dir)
        | {"quantize_s": quantized_s, "gate_s": time.monotonic() - started - quantized_s},
    )


def check_finite(reader: TensorReader, master: CheckpointInfo) -> None:
    """Raises Diverged naming the master's tensors that hold an infinity or NaN."""
    broken = nonfinite_tensors(reader, master)
    if broken:
        raise Diverged(f"the master holds infinities or NaN in {names_in_words(broken)}: nothing can be fitted to it")


def calibration_windows(spec: QuantizeSpec, base: ChildInput, datasets: list[ChildInput]) -> Tokens:
    """Returns the calibration samples, shape [num_samples, length_tokens]; raises InvalidInput if the text is too short."""
    calibration = spec.calibration
    streams = tokenize(base.path, datasets)
    return sample_windows(streams, num_samples=calibration.num_samples, length_tokens=calibration.length_tokens, seed=calibration.seed)


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


def _version(spec: QuantizeSpec, plan: QuantizationPlan, report: QuantizationReport, evidence: list[EvidenceDraft]) -> ChildVersion:
    # A gate that said nothing has not let it pass.
    has_passed = bool(evidence) and all(one.verdict is Verdict.PASS for one in evidence)
    return ChildVersion(
        kind=VersionKind.QUANTIZED,
        format=plan.method.format,
        scheme=plan.scheme,
        state=VersionState.READY if has_passed else VersionState.QUARANTINED,
        recipe=spec.model_dump(mode="json") | {"group_size": plan.group_size, "backend": plan.method.backend, "settings": report.settings},
        toolchain=report.toolchain,
    )


def _metrics(report: QuantizationReport, windows: Tokens, master: CheckpointInfo, output_dir: Path) -> dict[str, Any]:
    weights_bytes = sum(size for name, size in DirectoryCheckpoint(output_dir).files().items() if name.endswith(".safetensors"))
    return report.metrics | {
        "num_calibration_tokens": int(windows.size),
        "weights_bytes": weights_bytes,
        "weights_ratio": weights_bytes / master.weights_bytes,
    }


def _within(reporter: Reporter, phase: str, begin: float, end: float) -> BackendProgress:
    def on_progress(share: float, detail: str, layers: Units | None = None) -> None:
        reporter.progress(phase, begin + (end - begin) * share, detail, layers)

    return on_progress
