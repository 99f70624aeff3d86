"""Supervised training for real, in the ml environment, on the example model: every base and adapter, what is refused, and how it ends.

All trainings that need no process of their own run one after the other in one, by the same code that the child runs.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from factories.child_runs import EXAMPLES, MASTER, ML_PYTHON, TEXT_FILE, Ran
from factories.many_recipes import Asked, run_all
from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import inspect_checkpoint
from quantry_core.datasets import DATASET_FILES, DatasetKind
from quantry_core.jobs import FinetuneSpec, InputRole, JobReason, QuantizeSpec
from quantry_core.methods import Format
from quantry_core.versions import VersionKind
from quantry_worker.protocol import ChildCheckpoint, ChildInput, ChildMetrics, ChildNote, ChildProgress

Event = TypeVar("Event")
GROUP = 32
QUICK = {"max_steps": 6, "batch_size": 2, "sequence_tokens": 48, "learning_rate": 0.003, "schedule": "constant", "warmup_ratio": 0.0}
"""Six steps see 576 tokens: enough that the loss on held-out text of one kind falls."""


def told(ran: Ran, kind: type[Event]) -> list[Event]:
    return [event for event in ran.events if isinstance(event, kind)]


def curve(ran: Ran) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (ran.artifacts_dir / "curve.jsonl").read_text().splitlines()]


def base(path: Path, kind: VersionKind = VersionKind.MASTER, form: Format = Format.SAFETENSORS, scheme: str | None = None) -> ChildInput:
    recipe = None if scheme is None else {"scheme": scheme}
    return ChildInput(role=InputRole.BASE, id="ver_1", ref="bard@1", kind=kind, format=form, path=path, recipe=recipe)


def dataset(folder: Path, role: InputRole, name: str, kind: DatasetKind, content: str) -> ChildInput:
    path = folder / name
    path.mkdir()
    (path / DATASET_FILES[kind]).write_text(content)
    return ChildInput(role=role, id="dat_1", ref=f"{name}@1", dataset_kind=kind, path=path)


def lines(*rows: Mapping[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def finetune(**changes: Any) -> FinetuneSpec:
    hyperparameters = QUICK | changes.pop("hyperparameters", {})
    validation = {"max_rows": 8} | changes.pop("validation", {})
    given = {"model": "bard", "training_file": "text", "hyperparameters": hyperparameters, "validation": validation} | changes
    return FinetuneSpec.model_validate(given)


def gptq_version(directory: Path) -> None:
    """Writes the example model with its layers rounded to nearest at 4 bits, symmetric, in the gptq layout, by numpy alone."""
    shutil.copytree(MASTER, directory)
    tensors = load_file(directory / "model.safetensors")
    shifts = np.arange(0, 32, 4, dtype=np.uint32)
    for name in [one for one in tensors if one.endswith("_proj.weight")]:
        weight = tensors.pop(name).astype(np.float32)
        out_features, in_features = weight.shape
        grouped = weight.reshape(out_features, -1, GROUP)
        scales = (np.abs(grouped).max(axis=2) / 7).astype(np.float16)
        levels = np.clip(np.round(grouped / scales[..., None].astype(np.float32)), -8, 7).astype(np.int64) + 8
        columns = levels.reshape(out_features, in_features).T.reshape(in_features // 8, 8, out_features).astype(np.uint32)
        module = name.removesuffix(".weight")
        tensors[f"{module}.qweight"] = np.bitwise_or.reduce(columns << shifts[None, :, None], axis=1).view(np.int32)
        # Version 1 stores each zero point, 8, less one.
        tensors[f"{module}.qzeros"] = np.full((in_features // GROUP, out_features // 8), 0x77777777, dtype=np.int32)
        tensors[f"{module}.scales"] = np.ascontiguousarray(scales.T)
        tensors[f"{module}.g_idx"] = (np.arange(in_features) // GROUP).astype(np.int32)
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    stated = {"quant_method": "gptq", "bits": 4, "group_size": GROUP, "sym": True, "desc_act": False, "checkpoint_format": "gptq"}
    (directory / "config.json").write_text(json.dumps(config | {"quantization_config": stated}))


def diverging_master(directory: Path, last_norm: float) -> None:
    """Writes the example model in bfloat16 with so large a last norm that gradients, or with a larger one logits, are beyond float32."""
    shutil.copytree(MASTER, directory)
    tensors = {name: (value.astype(np.float32)) for name, value in load_file(directory / "model.safetensors").items()}
    tensors["model.norm.weight"] = np.full_like(tensors["model.norm.weight"], last_norm)
    plain = directory / "float32.safetensors"
    save_file(tensors, plain, metadata={"format": "pt"})
    script = (
        "import sys; from safetensors.torch import load_file, save_file; "
        "save_file({n: t.bfloat16() for n, t in load_file(sys.argv[1]).items()}, sys.argv[2], metadata={'format': 'pt'})"
    )
    subprocess.run([ML_PYTHON, "-c", script, plain, directory / "model.safetensors"], check=True, timeout=120)
    plain.unlink()
    config = json.loads((directory / "config.json").read_text()) | {"dtype": "bfloat16"}
    (directory / "config.json").write_text(json.dumps(config))


LONG = "the jargon of hackers " * 40
PROMPTS = [{"prompt": f"What is word {number}?", "response": f"It is a thing of kind {number}."} for number in range(30)]
CHATS = [
    {
        "messages": [
            {"role": "user", "content": f"Say {number}."},
            {"role": "assistant", "content": f"{number} it is"},
            {"role": "user", "content": "Again."},
            {"role": "assistant", "content": f"{number} once more"},
        ]
    }
    for number in range(24)
]


class Texts(NamedTuple):
    """What is learned from and measured on."""

    text: ChildInput
    test: ChildInput
    corpus: ChildInput
    prompts: ChildInput
    overlong: ChildInput
    chats: ChildInput
    unanswered: ChildInput


def texts_below(folder: Path) -> Texts:
    train, jargon = InputRole.TRAINING, (EXAMPLES / "corpora" / "jargon.train.txt").read_text()
    text = dataset(folder, train, "jargon", DatasetKind.TEXT, jargon[:24_000])
    test = dataset(folder, InputRole.VALIDATION, "held-out", DatasetKind.TEXT, jargon[24_000:27_000])
    corpus = dataset(folder, InputRole.CORPUS, "kjv", DatasetKind.TEXT, (EXAMPLES / "corpora" / "kjv.test.txt").read_text()[:6_000])
    prompts = dataset(folder, train, "prompts", DatasetKind.PROMPTS, lines(*PROMPTS))
    overlong = dataset(
        folder,
        train,
        "overlong",
        DatasetKind.PROMPTS,
        lines(*PROMPTS, {"prompt": "Long?", "response": LONG}, {"prompt": LONG, "response": "no"}),
    )
    chats = dataset(folder, train, "chats", DatasetKind.CHAT, lines(*CHATS))
    unanswered = dataset(folder, train, "unanswered", DatasetKind.CHAT, lines(CHATS[0], {"messages": CHATS[0]["messages"][:1]}))
    return Texts(text, test, corpus, prompts, overlong, chats, unanswered)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    folder = tmp_path_factory.mktemp("training")
    text, test, corpus, prompts, overlong, chats, unanswered = texts_below(folder)
    gptq_version(folder / "gptq")
    diverging_master(folder / "diverging", 1e18)
    diverging_master(folder / "beyond-floats", 3e38)
    master = base(MASTER)
    w4a16 = QuantizeSpec(base="bard", method="rtn", scheme="W4A16", quality=None)
    nf4 = QuantizeSpec(base="bard", method="bitsandbytes", scheme="NF4", quality=None)
    quantized, packed = folder / "make-w4a16" / "output", folder / "make-nf4" / "output"
    full = {"adapter": None, "checkpoint_every_steps": 1}
    requests: dict[str, tuple[Any, list[ChildInput]]] = {
        "make-w4a16": (w4a16, [master]),
        "make-nf4": (nf4, [master]),
        "lora": (finetune(checkpoint_every_steps=4), [master, text, test, corpus]),
        "dora": (finetune(adapter={"kind": "dora"}), [master, text, test]),
        "rslora": (finetune(adapter={"kind": "rslora", "target_modules": ["q_proj", "*.1.mlp.*"]}), [master, text, test]),
        "nf4": (finetune(base_precision="nf4"), [master, text, test, corpus]),
        "int8": (finetune(base_precision="int8"), [master, text, test]),
        "nf4-dora": (finetune(base_precision="nf4", adapter={"kind": "dora"}), [master, text, test]),
        "int8-dora": (finetune(base_precision="int8", adapter={"kind": "dora"}), [master, text, test]),
        "on-w4a16": (finetune(), [base(quantized, VersionKind.QUANTIZED, Format.COMPRESSED_TENSORS, "W4A16"), text, test]),
        "on-nf4": (finetune(), [base(packed, VersionKind.QUANTIZED, Format.BITSANDBYTES, "NF4"), text, test]),
        "on-gptq": (finetune(), [base(folder / "gptq", VersionKind.QUANTIZED, Format.GPTQ, "W4A16"), text, test]),
        "on-fp8": (finetune(), [base(quantized, VersionKind.QUANTIZED, Format.COMPRESSED_TENSORS, "FP8_DYNAMIC"), text, test]),
        "full": (finetune(**full, hyperparameters={"learning_rate": 3e-4}), [master, text, test, corpus]),
        "checkpointing": (finetune(hyperparameters={"gradient_checkpointing": True}), [master, text, test]),
        "packed-chats": (finetune(method={"type": "supervised", "packing": True}), [master, chats]),
        "truncate": (finetune(), [master, overlong]),
        "drop": (finetune(overlong="drop"), [master, overlong]),
        "refuse": (
            finetune(overlong="refuse", validation={"share": 0.05}),
            [master, overlong, prompts.model_copy(update={"role": InputRole.VALIDATION})],
        ),
        "unanswered": (finetune(), [master, unanswered]),
        "no-such-module": (finetune(adapter={"target_modules": ["q_proj", "wq", "lm_head"]}), [master, text]),
        "long-sequences": (finetune(hyperparameters={"sequence_tokens": 2048}), [master, text]),
        "diverging": (
            finetune(**full, hyperparameters={"learning_rate": 1.0, "max_grad_norm": 1000.0, "sequence_tokens": 32}),
            [base(folder / "diverging"), text],
        ),
        "no-number": (finetune(), [base(folder / "beyond-floats"), text]),
        "stopped-early": (
            finetune(
                **full,
                hyperparameters={"learning_rate": 0.05, "warmup_ratio": 0.0, "max_steps": 40},
                validation={"every_steps": 1, "early_stopping_patience": 2},
            ),
            [master, text, test],
        ),
    }
    return run_all(folder, {name: Asked(spec, inputs) for name, (spec, inputs) in requests.items()})


LEARNED = ["lora", "dora", "rslora", "nf4", "int8", "nf4-dora", "on-w4a16", "on-nf4", "on-gptq", "full", "checkpointing"]


@pytest.mark.parametrize("name", LEARNED)
def test_every_base_and_adapter_learns(answers: dict[str, Ran], name: str) -> None:
    found = answers[name].evidence("validation").metrics
    # Of the base and of the trained model on the same held-out text: the whole interval lies below zero.
    assert found["nll_increase_high_nats"] < 0
    assert found["perplexity_ratio"] == pytest.approx(math.exp(found["nll_mean"] - found["reference_nll_mean"]))
    assert answers[name].result.metrics["num_steps"] == 6


def test_an_adapter_is_small_safe_and_names_its_base(answers: dict[str, Ran]) -> None:
    ran = answers["lora"]
    assert {path.name for path in (ran.output_dir).iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
    assert {path.stat().st_mode & 0o777 for path in (ran.output_dir).iterdir()} == {0o644}
    config = json.loads((ran.output_dir / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "bard@1"
    assert sorted(config["target_modules"]) == ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    tensors = load_file(ran.output_dir / "adapter_model.safetensors")
    # A and B of seven modules in each of six layers.
    assert len(tensors) == 6 * 7 * 2
    assert {value.dtype for value in tensors.values()} == {np.dtype(np.float32)}
    version = ran.result.version
    assert version is not None
    assert (version.kind, version.format, version.scheme) == (VersionKind.ADAPTER, Format.PEFT, None)
    assert {"torch", "transformers", "peft", "trl"} <= version.toolchain.keys()
    assert str(MASTER) not in json.dumps(config)


def test_targets_by_name_and_by_glob(answers: dict[str, Ran]) -> None:
    tensors = load_file(answers["rslora"].output_dir / "adapter_model.safetensors")
    modules = {name.removeprefix("base_model.model.").rpartition(".lora_")[0] for name in tensors}
    expected = {f"model.layers.{layer}.self_attn.q_proj" for layer in range(6)}
    assert modules == expected | {f"model.layers.1.mlp.{name}_proj" for name in ("gate", "up", "down")}


def test_bitsandbytes_is_named_where_it_was_used(answers: dict[str, Ran]) -> None:
    versions = {name: answers[name].result.version for name in LEARNED}
    named = {name for name, version in versions.items() if version is not None and "bitsandbytes" in version.toolchain}
    assert named == {"nf4", "int8", "nf4-dora", "on-nf4"}


def test_a_base_that_rounds_activations_is_refused(answers: dict[str, Ran]) -> None:
    assert "rounds activations" in answers["on-fp8"].failure.message
    assert "PEFT loses their scales" in answers["int8-dora"].failure.message


def test_a_full_training_makes_a_whole_model_of_the_bases_shape(answers: dict[str, Ran]) -> None:
    ran = answers["full"]
    assert ran.result.version is not None
    assert (ran.result.version.kind, ran.result.version.dtype) == (VersionKind.MERGED, "float16")
    output = ran.output_dir
    ours, theirs = (inspect_checkpoint(DirectoryCheckpoint(path)) for path in (output, MASTER))
    assert {name: (one.dtype, one.shape) for name, one in ours.tensors.items()} == {
        name: (one.dtype, one.shape) for name, one in theirs.tensors.items()
    }
    assert (output / "config.json").read_bytes() == (MASTER / "config.json").read_bytes()
    assert (output / "tokenizer.json").exists()
    assert {path.stat().st_mode & 0o777 for path in output.iterdir()} == {0o644}


@pytest.mark.parametrize("name", ["lora", "nf4", "full"])
def test_forgetting_is_measured_against_the_base(answers: dict[str, Ran], name: str) -> None:
    found = answers[name].result.metrics["corpora"]["kjv@1"]
    assert found["against"] == "bard@1"
    assert found["kl_mean_nats"] > 0
    assert found["perplexity"] != found["reference_perplexity"]
    assert abs(found["reference_perplexity"] - answers["lora"].result.metrics["corpora"]["kjv@1"]["reference_perplexity"]) < 1.5


def test_curves_and_checkpoints_are_told(answers: dict[str, Ran]) -> None:
    ran = answers["lora"]
    steps = told(ran, ChildMetrics)
    assert [event.step for event in steps if "loss" in event.values] == [1, 2, 3, 4, 5, 6]
    assert {"loss", "learning_rate", "grad_norm", "tokens_per_s", "epoch"} <= steps[0].values.keys()
    assert "eval_loss" in steps[-1].values
    assert [{"step": one.step} | one.values for one in steps] == curve(ran)
    checkpoints = told(ran, ChildCheckpoint)
    assert [(event.step, event.folder) for event in checkpoints] == [(4, "step-4"), (6, "step-6")]
    folder = ran.checkpoints_dir / "step-6"
    names = {path.name for path in folder.iterdir()}
    assert {"adapter_model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "best.safetensors"} <= names
    assert "training_args.bin" not in names
    assert str(MASTER) not in (folder / "adapter_config.json").read_text()
    progress = told(ran, ChildProgress)
    assert [event.fraction for event in progress] == sorted(event.fraction for event in progress)
    assert progress[-1].phase == "saving"
    assert (6, 6, "steps") in [(event.done, event.total, event.unit) for event in progress]


def test_every_token_of_plain_text_is_used_once(answers: dict[str, Ran]) -> None:
    script = (
        "import sys; from transformers import AutoTokenizer; t = AutoTokenizer.from_pretrained(sys.argv[1]); "
        "print(len(t(open(sys.argv[2]).read(), add_special_tokens=False).input_ids))"
    )
    counted = subprocess.run(
        [ML_PYTHON, "-c", script, MASTER, answers["lora"].output_dir.parents[1] / "jargon" / TEXT_FILE],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    metrics = answers["lora"].result.metrics
    assert metrics["num_tokens"] == int(counted.stdout)
    # Each sequence is at most 48 tokens, and none much shorter; its first token is predicted from nothing.
    assert metrics["num_samples"] == math.ceil(metrics["num_tokens"] / 48)
    assert metrics["num_learned_tokens"] == metrics["num_tokens"] - metrics["num_samples"]


def test_what_is_too_long_is_cut_left_out_or_refused_and_counted(answers: dict[str, Ran]) -> None:
    cut, left_out = answers["truncate"].result.metrics, answers["drop"].result.metrics
    # Of a prompt that fills a sequence, nothing would be learned. A twentieth of the rows, 2 of 32, is held out.
    assert cut["num_samples"] + cut["num_dropped"] == left_out["num_samples"] + left_out["num_dropped"] == 30
    assert cut["num_truncated"] + cut["num_dropped"] == left_out["num_dropped"] > 0
    message = answers["refuse"].failure.message
    assert "overlong@1: lines 31 (" in message
    assert ", 32 (" in message
    assert "sequence_tokens, which is 48" in message


def test_bad_input_is_named(answers: dict[str, Ran]) -> None:
    assert "unanswered@1: line 2 has no assistant turn" in answers["unanswered"].failure.message
    message = answers["no-such-module"].failure.message
    assert "'wq' or 'lm_head'" in message
    assert "down_proj, gate_proj" in message
    assert answers["long-sequences"].failure.message == "sequence_tokens is 2048, but the model's context is 1024 tokens"


def test_a_gradient_beyond_floats_stops_the_run_and_keeps_the_last_checkpoint(answers: dict[str, Ran]) -> None:
    ran = answers["diverging"]
    assert ran.failure.reason is JobReason.DIVERGED
    assert ran.failure.message.startswith("the gradient became inf at step 2; the last good checkpoint is of step 1")
    assert (ran.checkpoints_dir / "step-1" / "model.safetensors").exists()
    assert not (ran.checkpoints_dir / "step-2").exists()


def test_a_loss_that_is_no_number_stops_the_run(answers: dict[str, Ran]) -> None:
    ran = answers["no-number"]
    assert ran.failure.reason is JobReason.DIVERGED
    assert ran.failure.message.startswith("the loss became nan at step 1; there is no checkpoint yet")
    assert not list(ran.checkpoints_dir.glob("step-*"))


def test_a_run_says_at_its_start_what_it_learns_from(answers: dict[str, Ran]) -> None:
    ran = answers["drop"]
    metrics, note = ran.result.metrics, told(ran, ChildNote)[0].text
    assert (metrics["num_rows"], metrics["num_validation_rows"]) == (30, 2)
    assert metrics["num_rows"] == metrics["num_samples"] + metrics["num_dropped"]
    assert metrics["num_validation_rows"] == metrics["num_validation_samples"] + metrics["num_validation_dropped"]
    assert f"overlong@1: 30 rows, {metrics['num_samples']} samples, {metrics['num_tokens']:,} tokens" in note
    assert f"2 rows, {metrics['num_validation_samples']} samples, {metrics['num_validation_tokens']:,} tokens" in note
    # Of a text that is measured on, the first samples count, as many as are measured.
    lora = answers["lora"].result
    assert lora.metrics["num_validation_samples"] == 8
    assert lora.metrics["num_validation_learned_tokens"] == lora.metrics["validation"]["num_tokens"]


def test_a_run_that_gets_no_better_ends_early_with_its_best_weights(answers: dict[str, Ran]) -> None:
    ran = answers["stopped-early"]
    measured = {one["step"]: one["eval_loss"] for one in curve(ran) if "eval_loss" in one}
    best = min(measured, key=lambda step: measured[step])
    assert ran.result.metrics["stopped_early"] is True
    assert ran.result.metrics["best_step"] == best == ran.result.metrics["num_steps"] - 2
    # The version holds the weights of that step: it measures as they did then.
    assert ran.result.metrics["validation"]["nll_mean"] == pytest.approx(measured[best], rel=1e-3)


def test_packed_chats_see_as_many_tokens_in_fewer_steps(answers: dict[str, Ran]) -> None:
    metrics = answers["packed-chats"].result.metrics
    assert metrics["num_dropped"] == metrics["num_truncated"] == 0
    assert 0 < metrics["num_learned_tokens"] < metrics["num_tokens"]
    # A step has two sequences of 48 tokens, and most hold two of these chats.
    per_step = metrics["num_epochs"] * metrics["num_samples"] / metrics["num_steps"]
    assert per_step > 3
