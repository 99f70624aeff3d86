"""DPO, KTO, ORPO, GRPO and RLOO for real, in the ml environment, on the example model.

The pairs are made by a rule: a prompt is the beginning of a line of scripture, its rejected answer goes on as the line does, and its
chosen answer says "Verily, verily" first, which the base finds less probable. Rewarded is the length of an answer: 60 characters,
about twice what eight tokens of the base have.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from factories.child_runs import EXAMPLES, MASTER, Ran
from factories.many_recipes import Asked, run_all
from quantry_core.datasets import DATASET_FILES, DatasetKind
from quantry_core.jobs import FinetuneSpec, InputRole, JobReason
from quantry_core.methods import Format
from quantry_core.versions import VersionKind
from quantry_worker.protocol import ChildInput, ChildMetrics

NUM_STEPS = 10
REWARDED = {
    "rewards": [{"name": "target_length", "target": 60}, {"name": "no_repetition", "weight": 0.1}],
    "num_generations": 4,
    "max_completion_tokens": 8,
    "beta": 0.01,
}
OF_THE_MACHINE = {"tokens_per_s"}


def pairs(num_pairs: int, begin: int = 0) -> list[dict[str, Any]]:
    lines = (EXAMPLES / "corpora" / "kjv.calibration.txt").read_text().splitlines()
    words = [line.split() for line in lines if len(line.split()) >= 12][begin : begin + num_pairs]
    return [
        {"prompt": " ".join(one[:6]), "chosen": "Verily, verily " + " ".join(one[6:12]), "rejected": " ".join(one[6:12])} for one in words
    ]


def labelled(rows: list[dict[str, Any]], *, label: bool) -> list[dict[str, Any]]:
    return [{"prompt": row["prompt"], "completion": row["chosen" if label else "rejected"], "label": label} for row in rows]


def dataset(folder: Path, role: InputRole, name: str, kind: DatasetKind, rows: list[dict[str, Any]]) -> ChildInput:
    path = folder / name
    path.mkdir()
    (path / DATASET_FILES[kind]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ChildInput(role=role, id="dat_1", ref=f"{name}@1", dataset_kind=kind, path=path)


def finetune(method: str, more: dict[str, Any] | None = None, **changes: Any) -> FinetuneSpec:
    given: dict[str, Any] = {
        "model": "bard",
        "training_file": "pairs",
        "method": {"type": method} | (more or {}),
        "adapter": {"rank": 8},
        "seed": 3,
        "hyperparameters": {
            "max_steps": NUM_STEPS,
            "n_epochs": 10,
            "batch_size": 4,
            "sequence_tokens": 48,
            "learning_rate": 1e-3,
            "schedule": "constant",
            "warmup_ratio": 0.0,
        }
        | changes.pop("hyperparameters", {}),
        "validation": {"every_steps": NUM_STEPS},
        "checkpoint_every_steps": 1000,
    }
    return FinetuneSpec.model_validate(given | changes)


def curve(ran: Ran) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (ran.artifacts_dir / "curve.jsonl").read_text().splitlines()]
    return [{name: value for name, value in one.items() if name not in OF_THE_MACHINE} for one in lines]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ChildInput]:
    folder = tmp_path_factory.mktemp("preferences")
    train, held_out, preferences = InputRole.TRAINING, InputRole.VALIDATION, DatasetKind.PREFERENCES
    overlong = [
        *pairs(12),
        {"prompt": "Long?", "chosen": "yes " * 200, "rejected": "no"},
        {"prompt": "so " * 200, "chosen": "a", "rejected": "b"},
    ]
    labels = labelled(pairs(20), label=True) + labelled(pairs(20, 20), label=False)
    return {
        "master": ChildInput(
            role=InputRole.BASE, id="ver_1", ref="bard@1", kind=VersionKind.MASTER, format=Format.SAFETENSORS, path=MASTER
        ),
        "pairs": dataset(folder, train, "pairs", preferences, pairs(40)),
        "few": dataset(folder, train, "few", preferences, pairs(16)),
        "held-out": dataset(folder, held_out, "held-out", preferences, pairs(8, 40)),
        "overlong": dataset(folder, train, "overlong", preferences, overlong),
        "labels": dataset(folder, train, "labels", DatasetKind.LABELLED, labels),
        "good": dataset(folder, train, "good", DatasetKind.LABELLED, labels[:20]),
        "prompts": dataset(
            folder, train, "prompts", DatasetKind.PROMPTS, [{"prompt": "a", "response": "b"}, {"prompt": "c", "response": "d"}]
        ),
    }


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, given: dict[str, ChildInput]) -> dict[str, Ran]:
    master, learned, held_out = given["master"], given["pairs"], given["held-out"]
    sampled = {"hyperparameters": {"batch_size": 16, "learning_rate": 2e-3}, "checkpoint_every_steps": 6}
    requests = {
        "dpo": (finetune("dpo", checkpoint_every_steps=6), [master, learned, held_out]),
        "dpo-full": (finetune("dpo", adapter=None, hyperparameters={"learning_rate": 1e-4}), [master, learned, held_out]),
        "dpo-nf4": (finetune("dpo", base_precision="nf4", hyperparameters={"max_steps": 4}), [master, learned, held_out]),
        "orpo": (finetune("orpo", {"beta": 1.0}), [master, learned, held_out]),
        "orpo-dropout": (
            finetune("orpo", {"beta": 1.0}, adapter={"rank": 8, "dropout": 0.5}, hyperparameters={"max_steps": 2}),
            [master, learned, held_out],
        ),
        "kto": (finetune("kto"), [master, learned, held_out]),
        "kto-labelled": (finetune("kto", hyperparameters={"max_steps": 2}), [master, given["labels"], held_out]),
        "grpo": (finetune("grpo", REWARDED, **sampled), [master, given["few"], held_out]),
        "grpo-free": (
            finetune("grpo", REWARDED | {"beta": 0.0}, hyperparameters={"batch_size": 16, "max_steps": 2}),
            [master, given["few"], held_out],
        ),
        "rloo": (finetune("rloo", REWARDED, **sampled), [master, learned, held_out]),
        "truncate": (finetune("dpo", hyperparameters={"max_steps": 1}), [master, given["overlong"], held_out]),
        "drop": (finetune("dpo", overlong="drop", hyperparameters={"max_steps": 1}), [master, given["overlong"], held_out]),
        "refuse": (finetune("dpo", overlong="refuse"), [master, given["overlong"], held_out]),
        "no-pairs": (finetune("dpo"), [master, given["prompts"]]),
        "one-label": (finetune("kto"), [master, given["good"], held_out]),
        "too-few": (
            finetune("grpo", REWARDED, hyperparameters={"batch_size": 16, "accumulation_steps": 5}),
            [master, given["few"], held_out],
        ),
    }
    folder = tmp_path_factory.mktemp("runs")
    return run_all(folder, {name: Asked(spec, inputs) for name, (spec, inputs) in requests.items()})


@pytest.mark.parametrize("name", ["dpo", "dpo-full", "dpo-nf4", "orpo"])
def test_the_margin_of_held_out_pairs_rises(answers: dict[str, Ran], name: str) -> None:
    found = answers[name].evidence("validation").metrics
    # Of each held-out pair before and after: the whole interval of the change lies above zero.
    assert found["log_prob_margin_nats_increase_low"] > 0
    assert found["num_samples"] == 8


@pytest.mark.parametrize("name", ["dpo", "dpo-full"])
def test_dpo_wins_held_out_pairs_that_the_base_loses(answers: dict[str, Ran], name: str) -> None:
    found = answers[name].evidence("validation").metrics
    # The base prefers what goes on as the text does; a model that is its own reference wins and loses nothing.
    assert found["reference_win_rate"] <= 0.25
    assert found["win_rate"] >= 0.75
    assert (found["reference_reward_win_rate"], found["reference_reward_margin"]) == (0.5, 0.0)
    assert found["reward_win_rate"] == 1.0
    assert found["reward_margin"] == pytest.approx(0.1 * found["log_prob_margin_nats_increase"], rel=1e-4)


@pytest.mark.parametrize("name", ["dpo", "dpo-full", "kto"])
def test_the_implicit_reward_is_the_one_that_the_trainer_measures(answers: dict[str, Ran], name: str) -> None:
    """TRL computes it by another way, from its own samples of the batch, at the last step."""
    theirs = next(one["eval_reward_margin"] for one in reversed(curve(answers[name])) if "eval_reward_margin" in one)
    assert answers[name].evidence("validation").metrics["reward_margin"] == pytest.approx(theirs, rel=1e-3)


def test_kto_learns_from_pairs_and_from_labels(answers: dict[str, Ran]) -> None:
    found = answers["kto"].evidence("validation").metrics
    assert found["signed_log_prob_nats_increase_low"] > 0
    assert found["reward_win_rate"] >= 0.75
    assert found["num_samples"] == 16
    assert answers["kto"].result.metrics["num_samples"] == 80
    # Read once more before and after the training, and counted once.
    assert answers["kto"].result.metrics["num_validation_samples"] == 16
    assert answers["kto-labelled"].result.metrics["num_samples"] == 40


@pytest.mark.parametrize("name", ["grpo", "rloo"])
def test_what_is_rewarded_becomes_likelier(answers: dict[str, Ran], name: str) -> None:
    steps = [event.values for event in answers[name].events if isinstance(event, ChildMetrics) and "loss" in event.values]
    assert all({"reward_mean", "kl", "reward_target_length", "reward_no_repetition"} <= values.keys() for values in steps)
    expected = [values["reward_target_length"] + 0.1 * values["reward_no_repetition"] for values in steps]
    assert [values["reward_mean"] for values in steps] == pytest.approx(expected, rel=1e-4)
    first, last = (sum(values["reward_mean"] for values in part) / len(part) for part in (steps[:3], steps[-3:]))
    assert last > first
    # The most probable answers to held-out prompts, before and after.
    found = answers[name].evidence("validation").metrics
    assert found["reward_mean"] > found["reference_reward_mean"]
    assert found["reward_mean"] == pytest.approx(found["reward_target_length"] + 0.1 * found["reward_no_repetition"])


def test_grpo_learns_without_a_reference_where_beta_is_zero(answers: dict[str, Ran]) -> None:
    steps = [one for one in curve(answers["grpo-free"]) if "loss" in one]
    assert len(steps) == 2
    assert all("reward_mean" in one and "kl" not in one for one in steps)


def test_dropout_is_of_the_adapter_that_orpo_trains(answers: dict[str, Ran]) -> None:
    plain, dropped = (curve(answers[name]) for name in ("orpo", "orpo-dropout"))
    # An adapter that changes nothing yet has nothing to drop.
    assert dropped[0]["loss"] == pytest.approx(plain[0]["loss"], rel=1e-5)
    assert dropped[1]["loss"] != pytest.approx(plain[1]["loss"], rel=1e-5)


def test_tokens_of_generated_answers_are_counted(answers: dict[str, Ran]) -> None:
    found = answers["grpo"].result.metrics
    # Prompts are seen once for each of four answers, which have eight tokens at most.
    prompts = 4 * found["num_tokens"] * found["num_epochs"]
    num_answers = NUM_STEPS * 16
    assert prompts + num_answers <= found["num_trained_tokens"] <= prompts + 8 * num_answers + found["num_tokens"] * 4


@pytest.mark.parametrize("name", ["dpo", "grpo"])
def test_what_goes_on_from_a_checkpoint_ends_as_if_undisturbed(
    tmp_path: Path, answers: dict[str, Ran], given: dict[str, ChildInput], name: str
) -> None:
    undisturbed = answers[name]
    more = REWARDED if name == "grpo" else None
    hyperparameters = {"batch_size": 16, "learning_rate": 2e-3} if name == "grpo" else {}
    spec = finetune(name, more, hyperparameters=hyperparameters, checkpoint_every_steps=6)
    kept = ChildInput(role=InputRole.CHECKPOINT, id="job_1", ref="step 6", path=undisturbed.checkpoints_dir / "step-6")
    # Of grpo an epoch has four steps: it goes on in the middle of the second one.
    learned = given["few"] if name == "grpo" else given["pairs"]
    resumed = run_all(tmp_path, {"resumed": Asked(spec, [given["master"], learned, given["held-out"], kept])})["resumed"]

    expected, found = curve(undisturbed), curve(resumed)
    assert [one["step"] for one in found] == [one["step"] for one in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-7)
    weights = [load_file(ran.output_dir / "adapter_model.safetensors") for ran in (undisturbed, resumed)]
    assert all(abs(weights[1][key] - tensor).max() <= 1e-6 for key, tensor in weights[0].items())


def test_an_adapter_is_saved_without_the_copy_that_the_trainer_made(answers: dict[str, Ran]) -> None:
    for name in ("dpo", "kto", "grpo", "grpo-free"):
        assert {path.name for path in answers[name].output_dir.iterdir()} == {"adapter_config.json", "adapter_model.safetensors"}
        assert not any(".ref." in key for key in load_file(answers[name].output_dir / "adapter_model.safetensors"))
    assert not (answers["dpo"].checkpoints_dir / "step-6" / "ref").exists()


def test_pairs_that_are_too_long_are_cut_left_out_or_refused(answers: dict[str, Ran]) -> None:
    cut, left_out = answers["truncate"].result.metrics, answers["drop"].result.metrics
    # A prompt that fills the sequence leaves nothing to learn of.
    assert (cut["num_samples"], cut["num_truncated"], cut["num_dropped"]) == (13, 1, 1)
    assert (left_out["num_samples"], left_out["num_truncated"], left_out["num_dropped"]) == (12, 0, 2)
    assert "lines 13 (" in answers["refuse"].failure.message
    assert "14 (" in answers["refuse"].failure.message


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no-pairs", "dataset prompts@1 holds prompt-response; dpo learns from preferences"),
        ("one-label", "all answers have one label"),
        ("too-few", "dataset few@1: a step answers 20 prompts, and there are 16"),
    ],
)
def test_what_cannot_be_learned_is_refused(answers: dict[str, Ran], name: str, words: str) -> None:
    assert answers[name].failure.reason is JobReason.INVALID_INPUT
    assert words in answers[name].failure.message
