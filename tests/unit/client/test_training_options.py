"""``quantry jobs submit finetune`` and ``merge``: the specs that options become, and what is told of those that cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from factories.client import FakeServer, answer, job
from factories.command import run
from quantry.cli.finetune_options import METHODS
from quantry.cli.job_view import about, outcome_text
from quantry_core.jobs import FinetuneSpec, JobResult, JobStatus, MergeSpec
from quantry_core.training import TrainingMethod

FINETUNE = "jobs submit finetune --model bard@1 --training-file lessons"
MERGE = "jobs submit merge --adapter bard@3"


def submitted(server: FakeServer, line: str) -> dict[str, Any]:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    assert run(*line.split()) == 0
    spec: dict[str, Any] = json.loads(server.requests[-1].content)["spec"]
    return spec


def test_defaults_are_those_of_the_specs(server: FakeServer) -> None:
    assert submitted(server, FINETUNE) == FinetuneSpec(model="bard@1", training_file="lessons").model_dump(mode="json")
    merge = MergeSpec.model_validate({"adapters": [{"adapter": "bard@3"}]})
    assert submitted(server, MERGE) == merge.model_dump(mode="json")


def test_a_fine_tune_with_every_option(server: FakeServer) -> None:
    line = (
        f"{FINETUNE} --validation-file exam@2 --suffix jargon --seed 7 --method supervised --no-completion-only --packing "
        "--adapter dora --rank 8 --alpha 16 --dropout 0.1 --target-module q_proj --target-module v_proj --base-precision nf4 "
        "--n-epochs 3 --max-steps 100 --batch-size 4 --accumulation-steps 2 --learning-rate 1e-4 --schedule cosine --warmup-ratio 0.1 "
        "--weight-decay 0.01 --max-grad-norm 0.5 --sequence-tokens 128 --gradient-checkpointing --overlong drop "
        "--validation-share 0.2 --validate-every-steps 10 --validation-max-rows 64 --early-stopping-patience 3 "
        "--checkpoint-every-steps 25 --corpus plays --corpus psalms "
        "--strategy deepspeed --num-processes 4 --zero-stage 1 --offload-to-cpu --deployment chat"
    )
    assert submitted(server, line) == {
        "type": "finetune",
        "model": "bard@1",
        "training_file": "lessons",
        "validation_file": "exam@2",
        "suffix": "jargon",
        "seed": 7,
        "method": {"type": "supervised", "completion_only": False, "packing": True},
        "adapter": {"kind": "dora", "rank": 8, "alpha": 16.0, "dropout": 0.1, "target_modules": ["q_proj", "v_proj"]},
        "base_precision": "nf4",
        "hyperparameters": {
            "n_epochs": 3,
            "max_steps": 100,
            "batch_size": 4,
            "accumulation_steps": 2,
            "learning_rate": 1e-4,
            "schedule": "cosine",
            "warmup_ratio": 0.1,
            "weight_decay": 0.01,
            "max_grad_norm": 0.5,
            "sequence_tokens": 128,
            "gradient_checkpointing": True,
        },
        "overlong": "drop",
        "validation": {"share": 0.2, "every_steps": 10, "max_rows": 64, "early_stopping_patience": 3},
        "checkpoint_every_steps": 25,
        "corpora": ["plays", "psalms"],
        "distributed": {"strategy": "deepspeed", "num_processes": 4, "zero_stage": 1, "offload_to_cpu": True},
        "deployment": "chat",
    }


def test_help_tells_what_to_begin_with_on_quantized_bases(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("jobs", "submit", "finetune", "--help") == 0
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "On quantized bases begin with q_proj and v_proj. May be given again." in told


def test_help_tells_what_a_default_is_of_and_where_an_option_counts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("jobs", "submit", "finetune", "--help") == 0
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "where all weights are trained, a tenth of that." in told
    assert "Of the adapter's inputs; of supervised and orpo alone." in told
    assert "plain text is cut into sequences, none of it is lost." in told


def test_every_method_can_be_asked_for() -> None:
    assert METHODS.keys() == set(TrainingMethod)
    assert all(spec.model_fields["type"].default is method for method, spec in METHODS.items())


@pytest.mark.parametrize(
    ("options", "method"),
    [
        ("--method dpo --beta 0.2", {"type": "dpo", "beta": 0.2}),
        ("--method kto --undesirable-weight 2", {"type": "kto", "beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 2.0}),
        ("--method orpo", {"type": "orpo", "beta": 0.1}),
        (
            "--method grpo --reward exact_match --reward target_length:200=0.5 --num-generations 2 --max-completion-tokens 32 "
            "--temperature 0.7",
            {
                "type": "grpo",
                "rewards": [
                    {"name": "exact_match", "weight": 1.0, "target": None},
                    {"name": "target_length", "weight": 0.5, "target": 200.0},
                ],
                "num_generations": 2,
                "max_completion_tokens": 32,
                "temperature": 0.7,
                "beta": 0.04,
            },
        ),
    ],
)
def test_what_a_method_is_told(server: FakeServer, options: str, method: dict[str, Any]) -> None:
    assert submitted(server, f"{FINETUNE} {options}")["method"] == method


def test_every_weight_of_a_base_and_every_linear_module(server: FakeServer) -> None:
    assert submitted(server, f"{FINETUNE} --adapter none")["adapter"] is None
    assert submitted(server, f"{FINETUNE} --target-module all-linear")["adapter"]["target_modules"] == "all-linear"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"{FINETUNE} --beta 0.2", "--beta is of dpo, kto, orpo, grpo, rloo; method supervised has none"),
        (f"{FINETUNE} --method dpo --reward exact_match", "--reward is of grpo, rloo; method dpo has none"),
        (f"{FINETUNE} --method grpo", "--reward: Field required"),
        (f"{FINETUNE} --method grpo --reward kindness", "--reward: Input should be"),
        (f"{FINETUNE} --method grpo --reward target_length", "needs a target"),
        (f"{FINETUNE} --adapter none --rank 8", "--rank is of an adapter, and --adapter is none"),
        (f"{FINETUNE} --adapter loha", "--adapter: Input should be 'lora', 'dora' or 'rslora'"),
        (f"{FINETUNE} --adapter none --base-precision nf4", "rounded weights cannot be trained"),
        (f"{FINETUNE} --learning-rate 0", "--learning-rate: Input should be greater than 0"),
        (f"{FINETUNE} --zero-stage 2", "zero_stage is deepspeed's"),
        (f"{FINETUNE} --strategy deepspeed --zero-stage 3", "nothing here gathers them"),
        (f"{FINETUNE} --suffix Jargon", "--suffix: "),
        (f"{MERGE}=half", "'half' is no number"),
        (f"{MERGE} --density 0.5", "density is of ties and dare"),
        (f"{MERGE} --measure", "name validation_file"),
        (f"{MERGE} --scheme W4A16", "--scheme is of a recipe of its own: name its --method"),
        (f"{MERGE} --calibration-seed 3", "--calibration-seed is of a recipe of its own"),
        (f"{MERGE} --no-quantize --method rtn", "nothing is quantized with --no-quantize"),
        (f"{MERGE} --method gptq", "is fitted to text: name calibration.datasets"),
        (f"{FINETUNE} --validation-share 1", "--validation-share: Input should be less than 1"),
    ],
)
def test_what_cannot_be_is_a_usage_error(server: FakeServer, capsys: pytest.CaptureFixture[str], line: str, words: str) -> None:
    assert run(*line.split()) == 2
    assert server.requests == []
    told = " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert words.replace(" ", "") in told.replace(" ", "")


def test_several_adapters_and_a_recipe_of_its_own(server: FakeServer) -> None:
    line = (
        f"{MERGE}=0.5 --adapter bard@4 --combination dare_ties --density 0.3 --seed 5 --suffix both --measure --validation-file exam "
        "--corpus plays --window-tokens 128 --max-windows 8 --method gptq --group-size 64 --calibration tales "
        "--calibration-seed 3 --no-quality"
    )
    spec = submitted(server, line)
    recipe = spec.pop("quantize")
    assert spec == {
        "type": "merge",
        "adapters": [{"adapter": "bard@3", "weight": 0.5}, {"adapter": "bard@4", "weight": 1.0}],
        "combination": "dare_ties",
        "density": 0.3,
        "seed": 5,
        "measure": True,
        "validation_file": "exam",
        "corpora": ["plays"],
        "window_tokens": 128,
        "max_windows": 8,
        "suffix": "both",
    }
    assert (recipe["method"], recipe["group_size"], recipe["quality"]) == ("gptq", 64, None)
    assert (recipe["calibration"]["datasets"], recipe["calibration"]["seed"]) == (["tales"], 3)
    assert "base" not in recipe
    assert submitted(server, f"{MERGE} --no-quantize")["quantize"] is None


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (JobResult(version_id="ver_1", metrics={"quantize_job_id": "job_2"}), "ver_1, being quantized by job_2"),
        (JobResult(version_id="ver_1", metrics={"quantize_refused": "no room"}), "ver_1, not quantized: no room"),
        (JobResult(), "best left beside its quantized base"),
    ],
)
def test_the_end_of_a_merge_says_what_follows(result: JobResult, words: str) -> None:
    spec = MergeSpec.model_validate({"adapters": [{"adapter": "bard@3"}, {"adapter": "bard@4"}]})
    assert words in outcome_text(job(JobStatus.SUCCEEDED, type="merge", spec=spec, result=result))


def test_a_list_says_what_is_trained_and_merged() -> None:
    finetune = FinetuneSpec.model_validate({"model": "bard@1", "training_file": "lessons"})
    assert about(job(type="finetune", spec=finetune)) == "bard@1 on lessons (supervised, lora r16)"
    whole = finetune.model_copy(update={"adapter": None})
    assert about(job(type="finetune", spec=whole)) == "bard@1 on lessons (supervised, all weights)"
    merge = MergeSpec.model_validate({"adapters": [{"adapter": "bard@3"}, {"adapter": "bard@4"}]})
    assert about(job(type="merge", spec=merge)) == "bard@3 + bard@4"
