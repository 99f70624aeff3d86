"""The quantize recipe around its backend: a stand-in writes what llm-compressor would, well or badly."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from factories.quantized import TinyCheckpoint, tiny_master, tiny_quantized
from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import inspect_checkpoint
from quantry_core.errors import InvalidInput
from quantry_core.gate import GateCheck, required_checks
from quantry_core.jobs import CalibrationSpec, InputRole, QualitySpec, QuantizeSpec, chosen
from quantry_core.methods import Format, GroupSize
from quantry_core.versions import EvidenceDraft, EvidenceKind, Verdict, VersionKind, VersionState
from quantry_worker.child.backends.table import QuantizationOrder, QuantizationReport
from quantry_worker.child.failures import Diverged
from quantry_worker.child.gate.findings import GateInput
from quantry_worker.child.gate.table import run_gate
from quantry_worker.child.numerics.text import TokenStream
from quantry_worker.child.plan import plan_quantization
from quantry_worker.child.recipes import quantize
from quantry_worker.child.reporter import Reporter
from quantry_worker.protocol import ChildInput, ChildNote, ChildProgress, ChildResult, ChildTask, parse_event

Lines = list[bytes]


WITH_MODELS = frozenset({GateCheck.READER, GateCheck.QUALITY})


def required_checks_in_order() -> list[GateCheck]:
    return [check for check in GateCheck if check in required_checks(QualitySpec())]


def run_without_models(given: GateInput, checks: Iterable[GateCheck]) -> list[EvidenceDraft]:
    """The real gate, but what would load models with torch passes."""
    passed = {check: EvidenceDraft(kind=EvidenceKind.GATE, name=check, verdict=Verdict.PASS) for check in WITH_MODELS}
    return [passed.get(check) or run_gate(given, [check])[0] for check in checks]


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> TinyCheckpoint:
    """Returns what the stand-in backend will write; a test may spoil it first."""
    output = tiny_quantized(tiny_master())
    output.others = {}

    def write(order: QuantizationOrder) -> QuantizationReport:
        assert order.windows is not None
        assert order.windows.shape == (4, 16)
        order.on_progress(0.5, "half")
        output.write(order.output_dir)
        (order.output_dir / "model.safetensors").chmod(0o600)
        return QuantizationReport(toolchain={"stand-in": "1"}, settings={"order": "static"}, notes=["one module fell back"])

    def tokens(_checkpoint: Path, datasets: list[ChildInput]) -> list[TokenStream]:
        return [TokenStream(one.ref, np.arange(100, dtype=np.int64)) for one in datasets]

    monkeypatch.setattr(quantize, "load_backend", lambda _backend: write)
    monkeypatch.setattr(quantize, "run_gate", run_without_models)
    monkeypatch.setattr(quantize, "tokenize", tokens)
    return output


def leave(_master: TinyCheckpoint) -> None:
    """The master as it is."""


def run(
    tmp_path: Path,
    lines: Lines,
    spoil_master: Callable[[TinyCheckpoint], object] = leave,
    num_samples: int = 4,
    length_tokens: int = 16,
) -> ChildResult:
    master = tiny_master()
    master.others["README.md"] = "about the master"
    spoil_master(master)
    base = ChildInput(role=InputRole.BASE, id="ver_1", ref="tiny@1", path=master.write(tmp_path / "base"))
    text = ChildInput(role=InputRole.CALIBRATION, id="dat_1", ref="text@1", path=tmp_path)
    (tmp_path / "output").mkdir()
    calibration = CalibrationSpec(datasets=["text"], num_samples=num_samples, length_tokens=length_tokens)
    task = ChildTask(
        job_id="job_1",
        attempt=1,
        spec=QuantizeSpec(base="tiny", group_size=32, calibration=calibration),
        inputs=[base, text],
        output_dir=tmp_path / "output",
        artifacts_dir=tmp_path / "artifacts",
        checkpoints_dir=tmp_path / "checkpoints",
        import_roots=[],
        num_threads=1,
    )
    return quantize.run(task, Reporter(lines.append))


def test_a_good_result_is_ready_with_its_evidence_and_what_it_takes_over(tmp_path: Path, backend: TinyCheckpoint) -> None:
    lines: Lines = []
    result = run(tmp_path, lines)

    version = result.version
    assert version is not None
    assert (version.kind, version.state, version.format, version.scheme) == (
        VersionKind.QUANTIZED,
        VersionState.READY,
        Format.COMPRESSED_TENSORS,
        "W4A16",
    )
    assert version.recipe["group_size"] == 32
    assert version.recipe["settings"] == {"order": "static"}
    assert [one["num_samples"] for one in version.recipe["sampling"]["datasets"]] == [4]
    assert version.toolchain == {"stand-in": "1"}
    assert [(one.name, one.verdict) for one in result.evidence] == [(check, Verdict.PASS) for check in required_checks_in_order()]
    files = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "output").iterdir()}
    assert files == dict.fromkeys(["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"], 0o644)
    assert result.metrics["weights_bytes"] == (tmp_path / "output" / "model.safetensors").stat().st_size
    assert result.metrics["num_calibration_tokens"] == 64

    events = [parse_event(line) for line in lines]
    notes = [event.text for event in events if isinstance(event, ChildNote)]
    assert notes == ["one module fell back"]
    fractions = [event.fraction for event in events if isinstance(event, ChildProgress)]
    assert fractions == sorted(fractions)


def test_a_result_that_fails_the_gate_is_quarantined_with_the_evidence(tmp_path: Path, backend: TinyCheckpoint) -> None:
    scale = "model.layers.1.mlp.up_proj.weight_scale"
    backend.tensors[scale] = np.ones_like(backend.tensors[scale])
    result = run(tmp_path, [])

    assert result.version is not None
    assert result.version.state is VersionState.QUARANTINED
    assert {one.name: one.verdict for one in result.evidence} == {
        check: Verdict.FAIL if check in {GateCheck.SCALES, GateCheck.RECONSTRUCTION} else Verdict.PASS
        for check in required_checks_in_order()
    }


def test_a_gate_that_says_nothing_lets_nothing_pass(tmp_path: Path, backend: TinyCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "run_gate", lambda _given, _checks: [])
    version = run(tmp_path, []).version
    assert version is not None
    assert version.state is VersionState.QUARANTINED


def test_a_master_that_is_not_finite_diverged(tmp_path: Path, backend: TinyCheckpoint) -> None:
    def spoil(master: TinyCheckpoint) -> None:
        master.tensors["model.layers.0.mlp.up_proj.weight"][3, 3] = np.nan

    with pytest.raises(Diverged, match=r"model\.layers\.0\.mlp\.up_proj\.weight"):
        run(tmp_path, [], spoil)
    assert list((tmp_path / "output").iterdir()) == []


@pytest.mark.parametrize(
    ("num_samples", "length_tokens", "words"),
    [
        (7, 16, "the calibration text is too short: 7 samples of 16 tokens are asked for, text@1 hold 6"),
        (1, 129, "calibration.length_tokens is 129, but the model's context is 128"),
    ],
)
def test_calibration_that_does_not_fit_is_refused(
    tmp_path: Path, backend: TinyCheckpoint, num_samples: int, length_tokens: int, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        run(tmp_path, [], num_samples=num_samples, length_tokens=length_tokens)


def test_the_samples_depend_on_the_seed_alone(tmp_path: Path, backend: TinyCheckpoint) -> None:
    base = ChildInput(role=InputRole.BASE, id="ver_1", ref="tiny@1", path=tmp_path)
    text = ChildInput(role=InputRole.CALIBRATION, id="dat_1", ref="text@1", path=tmp_path)

    def windows(seed: int) -> list[list[int]]:
        spec = QuantizeSpec(base="tiny", calibration=CalibrationSpec(datasets=["text"], num_samples=4, length_tokens=16, seed=seed))
        samples, _sampling = quantize.calibration_windows(spec, base, [text])
        assert samples is not None
        drawn: list[list[int]] = samples.tolist()
        return drawn

    assert windows(1) == windows(1)
    assert windows(1) != windows(2)


def test_a_required_check_that_was_left_out_lets_nothing_pass(
    tmp_path: Path, backend: TinyCheckpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_reader(given: GateInput, checks: Iterable[GateCheck]) -> list[EvidenceDraft]:
        return [one for one in run_without_models(given, checks) if one.name != GateCheck.READER]

    monkeypatch.setattr(quantize, "run_gate", without_reader)
    version = run(tmp_path, []).version
    assert version is not None
    assert version.state is VersionState.QUARANTINED


@pytest.mark.parametrize("group_size", [32, "channel"])
def test_a_recipe_read_back_makes_the_same(tmp_path: Path, group_size: GroupSize) -> None:
    master = inspect_checkpoint(DirectoryCheckpoint(tiny_master().write(tmp_path / "master")))
    spec = QuantizeSpec(base="m", method="rtn", scheme="W8A16", group_size=group_size, options={"symmetric": False})
    recipe = quantize._recipe(plan_quantization(spec, master), QuantizationReport(toolchain={}), None)
    known = {name: value for name, value in recipe.items() if name in QuantizeSpec.model_fields}
    assert chosen(QuantizeSpec.model_validate(known)) == chosen(spec)
