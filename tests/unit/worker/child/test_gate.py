"""The gate's checks that need no torch, on a good checkpoint and on ones broken in one way each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from factories.quantized import MODULES, NUM_LAYERS, TinyCheckpoint, pack_word, packed_parts, tiny_master, tiny_quantized
from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import inspect_checkpoint
from quantry_core.gate import GateCheck, required_checks
from quantry_core.jobs import CalibrationSpec, QualitySpec, QuantizeSpec
from quantry_core.versions import EvidenceDraft, Verdict
from quantry_worker.child.formats.stored import StoredCheckpoint
from quantry_worker.child.gate import findings, reconstruction
from quantry_worker.child.gate.findings import GateInput
from quantry_worker.child.gate.reconstruction import max_relative_error
from quantry_worker.child.gate.table import CHECKS, due_checks, run_gate
from quantry_worker.child.gate.tensors import check_tensors
from quantry_worker.child.numerics.tensors import TensorReader
from quantry_worker.child.plan import plan_quantization
from quantry_worker.protocol import ChildTask

Q0, K0, V0, DOWN0, DOWN1 = (
    "model.layers.0.self_attn.q_proj",
    "model.layers.0.self_attn.k_proj",
    "model.layers.0.self_attn.v_proj",
    "model.layers.0.mlp.down_proj",
    "model.layers.1.mlp.down_proj",
)


WITH_MODELS = {GateCheck.READER, GateCheck.ENGINE, GateCheck.QUALITY}
"""Checks that load models: tested in the ml environment, by tests/integration/worker/test_gate.py."""
HERE = [check for check in CHECKS if check not in WITH_MODELS]


def given_of(tmp_path: Path, output_dir: Path, ignore: tuple[str, ...], original: TinyCheckpoint, **changes: Any) -> GateInput:
    """Returns what the gate is given for a checkpoint that was to be W4A16 with groups of 32."""
    master_dir = original.write(tmp_path / "master")
    master = inspect_checkpoint(DirectoryCheckpoint(master_dir))
    asked: dict[str, Any] = {"group_size": 32, "calibration": CalibrationSpec(datasets=["text"], length_tokens=64)}
    spec = QuantizeSpec(base="tiny", ignore=list(ignore), **asked | changes)
    task = ChildTask(
        job_id="job_1",
        attempt=1,
        spec=spec,
        inputs=[],
        output_dir=output_dir,
        artifacts_dir=tmp_path / "artifacts",
        checkpoints_dir=tmp_path / "checkpoints",
        import_roots=[],
        num_threads=1,
    )
    return GateInput(output_dir=output_dir, plan=plan_quantization(spec, master), master=master, master_dir=master_dir, task=task)


def gate(
    tmp_path: Path,
    output: TinyCheckpoint,
    ignore: tuple[str, ...] = ("lm_head",),
    original: TinyCheckpoint | None = None,
    **changes: Any,
) -> dict[str, EvidenceDraft]:
    """Writes the master and the output, and returns the gate's evidence by check."""
    given = given_of(tmp_path, output.write(tmp_path / "output"), ignore, original or tiny_master(), **changes)
    return {one.name: one for one in run_gate(given, HERE)}


def unpack_again(output: TinyCheckpoint, module: str) -> None:
    """Leaves a module at 16 bits though the config says otherwise."""
    for part in ("weight_packed", "weight_scale", "weight_shape"):
        del output.tensors[f"{module}.{part}"]
    output.tensors[f"{module}.weight"] = tiny_master().tensors[f"{module}.weight"]


def set_scales(output: TinyCheckpoint, value: float) -> None:
    scales = output.tensors[f"{Q0}.weight_scale"]
    output.tensors[f"{Q0}.weight_scale"] = np.full_like(scales, value)


def change_last_element(output: TinyCheckpoint, name: str) -> None:
    tensor = output.tensors[name].copy()
    tensor.flat[-1] += 1
    output.tensors[name] = tensor


def overwrite(output: TinyCheckpoint, module: str, rows: slice, columns: slice, value: int) -> None:
    """Puts one 4-bit integer into the rows and columns (whole words of eight) of a packed module."""
    packed = output.tensors[f"{module}.weight_packed"]
    packed[rows, slice(columns.start // 8, columns.stop // 8)] = pack_word([value] * 8)


def swap_layers(output: TinyCheckpoint) -> None:
    for part in ("weight_packed", "weight_scale"):
        first, second = f"{DOWN0}.{part}", f"{DOWN1}.{part}"
        output.tensors[first], output.tensors[second] = output.tensors[second], output.tensors[first]


def say_group_size(output: TinyCheckpoint, size: int) -> None:
    output.config["quantization_config"]["config_groups"]["group_0"]["weights"]["group_size"] = size


def test_a_good_checkpoint_passes_every_check(tmp_path: Path) -> None:
    evidence = gate(tmp_path, tiny_quantized(tiny_master()))

    assert list(evidence) == HERE
    assert {one.verdict for one in evidence.values()} == {Verdict.PASS}, [one.metrics["problems"] for one in evidence.values()]
    tensors, precision = evidence["tensors"].metrics, evidence["precision"].metrics
    assert tensors["num_quantized_modules"] == len(MODULES)
    assert precision["num_quantized_modules"] == len(MODULES)
    # 4 bits, a 16-bit scale for 32 weights, and two 64-bit numbers for the shape.
    down_bits = 4 + 16 / 32 + 128 / (64 * 96)
    assert precision["bits_per_weight_by_kind"]["down_proj"] == pytest.approx(down_bits)
    assert 0.01 < evidence["reconstruction"].metrics["relative_error_max"] < 0.2


def test_a_module_ignored_by_the_recipe_stays_at_16_bits(tmp_path: Path) -> None:
    kept = frozenset({DOWN0, DOWN1})
    evidence = gate(tmp_path, tiny_quantized(tiny_master(), kept=kept), ignore=("lm_head", "*.down_proj"))

    assert {one.verdict for one in evidence.values()} == {Verdict.PASS}
    assert evidence["precision"].metrics["num_kept_modules"] == 2


BREAKAGES: list[tuple[str, Callable[[TinyCheckpoint], object], str, str]] = [
    ("left at 16 bits", lambda o: unpack_again(o, DOWN0), "tensors", f"tensor {DOWN0}.weight_packed is missing"),
    ("left at 16 bits, counted", lambda o: unpack_again(o, DOWN0), "precision", f"{DOWN0} takes 16.00 bits"),
    ("fused with another scheme", lambda o: unpack_again(o, K0), "fused-groups", "fused by vLLM but do not share one scheme"),
    (
        "untied output layer",
        lambda o: o.tensors.update({"lm_head.weight": o.tensors["model.embed_tokens.weight"].copy()}),
        "tensors",
        "tensor lm_head.weight does not belong here",
    ),
    ("norm missing", lambda o: o.tensors.pop("model.norm.weight"), "tensors", "tensor model.norm.weight is missing"),
    (
        "embedding in float32",
        lambda o: o.tensors.update({"model.embed_tokens.weight": o.tensors["model.embed_tokens.weight"].astype(np.float32)}),
        "tensors",
        "model.embed_tokens.weight is F32",
    ),
    (
        "lying weight_shape",
        lambda o: o.tensors.update({f"{Q0}.weight_shape": np.array([64, 32], dtype=np.int64)}),
        "scales",
        f"{Q0}.weight_shape says [64, 32]",
    ),
    (
        "packed as 8 bits",
        lambda o: o.tensors.update({f"{Q0}.weight_packed": np.zeros((64, 16), dtype=np.int32)}),
        "tensors",
        f"{Q0}.weight_packed is I32 [64, 16], expected is I32 [64, 8]",
    ),
    (
        "packed as 8 bits, counted",
        lambda o: o.tensors.update({f"{Q0}.weight_packed": np.zeros((64, 16), dtype=np.int32)}),
        "precision",
        f"{Q0} takes 8.",
    ),
    (
        "another group size",
        lambda o: say_group_size(o, 64),
        "precision",
        f"{DOWN0} is said to have 4-bit int weights, one scale a group of 64",
    ),
    ("another group size, shapes", lambda o: say_group_size(o, 64), "tensors", f"{Q0}.weight_scale is F16 [64, 2]"),
    (
        "an element of the embedding",
        lambda o: change_last_element(o, "model.embed_tokens.weight"),
        "tensors",
        "model.embed_tokens.weight is not quantized and does not hold the master's bytes",
    ),
    ("an element of a norm", lambda o: change_last_element(o, "model.norm.weight"), "tensors", "model.norm.weight is not quantized"),
    (
        "one row of zeros",
        lambda o: overwrite(o, Q0, slice(1, 2), slice(0, 64), 0),
        "reconstruction",
        f"{Q0} is not the master's weight in 1 of 64 rows (the first is 1): relative error up to 1.00",
    ),
    (
        "one row of garbage",
        lambda o: overwrite(o, Q0, slice(62, 63), slice(0, 64), 7),
        "reconstruction",
        f"{Q0} is not the master's weight in 1 of 64 rows (the first is 62)",
    ),
    (
        "one group of columns of zeros",
        lambda o: overwrite(o, DOWN0, slice(0, 64), slice(32, 64), 0),
        "reconstruction",
        f"{DOWN0} is not the master's weight in 1 of 3 column groups (the first is 1): relative error up to 1.00",
    ),
    ("another architecture", lambda o: o.config.update(vocab_size=41), "files", "config.json: vocab_size is 41, in the master 40"),
    ("another dtype", lambda o: o.config.update(dtype="float32"), "files", 'config.json: dtype is "float32", in the master "float16"'),
    (
        "rewritten by a library",
        lambda o: o.config.update(transformers_version="5.17.0", rope_scaling=None),
        "files",
        "config.json: rope_scaling is null, in the master absent",
    ),
    ("true for 1", lambda o: o.config.update(tie_word_embeddings=1), "files", "tie_word_embeddings is 1, in the master true"),
    ("tokenizer gone", lambda o: o.others.pop("tokenizer.json"), "files", "tokenizer.json of the master is missing"),
    ("tokenizer changed", lambda o: o.others.update({"tokenizer.json": "[]"}), "files", "tokenizer.json is not the master's"),
    ("scales not a number", lambda o: set_scales(o, float("nan")), "scales", f"{Q0}.weight_scale: a scale is infinite or not a number"),
    (
        "numbers not finite",
        lambda o: set_scales(o, float("inf")),
        "reconstruction",
        f"{Q0}: a number, dequantized or in the master, is infinite or NaN",
    ),
    ("scales of zero", lambda o: set_scales(o, 0.0), "scales", f"{Q0}.weight_scale: 128 scales are not positive"),
    ("scales of one", lambda o: set_scales(o, 1.0), "scales", f"{Q0}.weight_scale: every scale is 1"),
    ("layers swapped", swap_layers, "reconstruction", f"{DOWN0} is not the master's weight"),
    (
        "ignored too much",
        lambda o: o.config["quantization_config"]["ignore"].append(Q0),
        "precision",
        f"{Q0} was to be quantized, and the checkpoint says it is not",
    ),
    ("no quantization_config", lambda o: o.config.pop("quantization_config"), "files", "config.json has no quantization_config"),
]


def with_kv_scales(**changed: float) -> TinyCheckpoint:
    """Returns the master with scales of an fp8 KV cache, all fitted but those that are named here, such as ``k_scale``, in layer 1."""
    output = tiny_master()
    scheme = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "tensor", "dynamic": False}
    output.config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "dense",
        "config_groups": {},
        "kv_cache_scheme": scheme,
        "ignore": [],
    }
    for layer in range(NUM_LAYERS):
        for kind in ("k_scale", "v_scale"):
            value = changed.get(kind, 0.02) if layer == 1 else 0.02
            output.tensors[f"model.layers.{layer}.self_attn.{kind}"] = np.array([value], dtype=np.float16)
    return output


def test_fitted_kv_scales_pass_and_one_that_was_left_at_its_default_does_not(tmp_path: Path) -> None:
    kv: dict[str, Any] = {"method": "kv-cache", "group_size": None}
    assert gate(tmp_path / "good", with_kv_scales(), **kv)["kv-scales"].verdict is Verdict.PASS
    for kind in ("k_scale", "v_scale"):
        evidence = gate(tmp_path / kind, with_kv_scales(**{kind: 1.0}), **kv)["kv-scales"]
        name = f"model.layers.1.self_attn.{kind}"
        assert evidence.metrics["problems"] == [f"{name} is exactly 1.0, which is what a layer has that was not calibrated"]


def test_a_converted_vector_must_have_the_masters_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As GGUF stores vectors: in float32. No family that adds one to its norms is written so."""

    def problems_of(name: str, added: float) -> list[str]:
        output = tiny_master()
        output.tensors["model.norm.weight"] = output.tensors["model.norm.weight"].astype(np.float32) + np.float32(added)
        directory = output.write(tmp_path / name)
        files = DirectoryCheckpoint(directory)
        info = inspect_checkpoint(files)
        stored = StoredCheckpoint(info, TensorReader(files, info), {}, is_converted=True)
        monkeypatch.setattr(findings, "open_stored", lambda *_: stored)
        problems: list[str] = check_tensors(given_of(tmp_path, directory, ("lm_head",), tiny_master())).metrics["problems"]
        return problems

    assert problems_of("same", 0.0) == []
    assert problems_of("one more", 1.0) == ["model.norm.weight is not quantized and does not hold the master's values"]


OLD_STYLE_CONFIG = {
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "torch_dtype": "float16",
    "transformers_version": "4.31.0",
    "_name_or_path": "somebody/tiny",
}
"""What transformers 4 wrote; version 5 writes rope_parameters and dtype in place of it."""


def test_a_config_in_an_old_style_passes_as_the_master_has_it_and_not_rewritten(tmp_path: Path) -> None:
    master = tiny_master()
    del master.config["dtype"]
    master.config |= OLD_STYLE_CONFIG
    kept = gate(tmp_path / "kept", tiny_quantized(master), original=master)
    assert {one.verdict for one in kept.values()} == {Verdict.PASS}

    rewritten = tiny_quantized(master)
    rewritten.config["dtype"] = rewritten.config.pop("torch_dtype")
    evidence = gate(tmp_path / "rewritten", rewritten, original=master)["files"]
    assert evidence.metrics["problems"] == [
        'config.json: dtype is "float16", in the master absent',
        'config.json: torch_dtype is absent, in the master "float16"',
    ]


def test_an_ignored_module_must_hold_the_masters_bytes(tmp_path: Path) -> None:
    output = tiny_quantized(tiny_master(), kept=frozenset({DOWN0, DOWN1}))
    change_last_element(output, f"{DOWN1}.weight")
    evidence = gate(tmp_path, output, ignore=("lm_head", "*.down_proj"))["tensors"]
    assert evidence.metrics["problems"] == [f"{DOWN1}.weight is not quantized and does not hold the master's bytes"]


def test_a_number_that_is_none_is_found_even_where_the_master_has_it_too(tmp_path: Path) -> None:
    master = tiny_master()
    master.tensors["model.norm.weight"][3] = np.inf
    evidence = gate(tmp_path, tiny_quantized(master), original=master)["tensors"]
    assert evidence.metrics["problems"] == ["model.norm.weight holds infinities or NaN"]


def test_a_row_of_zeros_must_stay_one(tmp_path: Path) -> None:
    master = tiny_master()
    output = tiny_quantized(master)
    master.tensors[f"{Q0}.weight"][1] = 0
    evidence = gate(tmp_path, output, original=master)["reconstruction"]
    assert evidence.metrics["problems"] == [
        f"{Q0} is not the master's weight in 1 of 64 rows (the first is 1): relative error up to inf, at most {max_relative_error(4)}"
    ]


def test_what_training_switched_off_may_become_zeros(tmp_path: Path) -> None:
    master = tiny_master()
    output = tiny_quantized(master)
    overwrite(output, Q0, slice(1, 2), slice(0, 64), 0)
    overwrite(output, Q0, slice(0, 64), slice(32, 64), 0)
    master.tensors[f"{Q0}.weight"][1] = 6e-8
    master.tensors[f"{Q0}.weight"][:, 32:] = 6e-8
    assert gate(tmp_path, output, original=master)["reconstruction"].verdict is Verdict.PASS


def test_blocks_give_what_the_whole_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gate(tmp_path / "whole", tiny_quantized(tiny_master()))["reconstruction"].metrics
    monkeypatch.setattr(reconstruction, "BLOCK_WEIGHTS", 5 * 64)
    blocks = gate(tmp_path / "blocks", tiny_quantized(tiny_master()))["reconstruction"].metrics
    for name in ("relative_error_max", "relative_error_mean"):
        assert blocks[name] == pytest.approx(whole[name], rel=1e-12)
    assert blocks["num_problems"] == whole["num_problems"] == 0


@pytest.mark.parametrize(("breakage", "check", "words"), [row[1:] for row in BREAKAGES], ids=[row[0] for row in BREAKAGES])
def test_a_broken_checkpoint_fails_and_is_told_why(
    tmp_path: Path, breakage: Callable[[TinyCheckpoint], object], check: str, words: str
) -> None:
    output = tiny_quantized(tiny_master())
    breakage(output)
    evidence = gate(tmp_path, output)[check]

    assert evidence.verdict is Verdict.FAIL
    assert any(words in problem for problem in evidence.metrics["problems"]), evidence.metrics["problems"]


def test_a_packed_module_that_was_to_be_ignored_fails_both_ways(tmp_path: Path) -> None:
    output = tiny_quantized(tiny_master(), kept=frozenset({DOWN1}))
    output.tensors |= packed_parts(DOWN1, output.tensors.pop(f"{DOWN1}.weight"))
    evidence = gate(tmp_path, output, ignore=("lm_head", DOWN1))

    assert any("does not belong here" in problem for problem in evidence["tensors"].metrics["problems"])
    assert any("was to stay at 16 bits" in problem for problem in evidence["precision"].metrics["problems"])


def test_a_truncated_file_fails_every_check_without_an_exception(tmp_path: Path) -> None:
    output = tiny_quantized(tiny_master()).write(tmp_path / "output")
    weights = output / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    evidence = run_gate(given_of(tmp_path, output, ("lm_head",), tiny_master()), HERE)

    assert [one.verdict for one in evidence] == [Verdict.FAIL] * len(HERE)
    assert all("model.safetensors" in one.metrics["problems"][0] for one in evidence)


def test_every_check_of_the_gate_has_its_row() -> None:
    assert list(CHECKS) == list(GateCheck)


def test_a_job_without_thresholds_is_not_measured_and_an_engine_is_asked_where_there_is_one(tmp_path: Path) -> None:
    given = given_of(tmp_path, tmp_path, ("lm_head",), tiny_master(), quality=None)
    assert set(due_checks(given)) == required_checks(None)
    measured = given_of(tmp_path, tmp_path, ("lm_head",), tiny_master(), quality=QualitySpec())
    with_engine = measured.task.model_copy(update={"checks_with_engine": True})
    assert due_checks(replace(measured, task=with_engine)) == list(GateCheck)
