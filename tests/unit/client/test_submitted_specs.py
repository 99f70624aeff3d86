"""``quantry jobs submit``: the specs that options become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from factories.client import (
    JOB_ID,
    FakeServer,
    answer,
    job,
)
from factories.command import run


def sent(server: FakeServer) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(server.requests[0].content)
    return document


DEFAULTS: dict[str, Any] = {
    "priority": 5,
    "resource": None,
    "queue": None,
    "limits": {"time_s": None, "memory_bytes": None},
    "not_before": None,
    "labels": {},
    "metadata": {},
    "force": False,
    "needs": [],
}


def test_a_quantize_job_with_every_option(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    options = "--base bard@1 --method gptq --scheme W4A16 --group-size 64 --option damping=0.05 --ignore lm_head --ignore *.gate"
    more = "--calibration plays --calibration psalms@2 --num-samples 32 --length-tokens 128 --seed 7 --priority 1"
    mixed = "--keep-16bit *.o_proj --override *.down_proj=W8A16:32 --override *.k_proj=W8A16 --kv-cache fp8"
    quality = "--quality-corpus news --threshold perplexity_ratio=1.05 --threshold task:piqa.acc=0.5 --quality-task piqa"
    assert run("jobs", "submit", "quantize", *options.split(), *more.split(), *mixed.split(), *quality.split()) == 0
    assert sent(server) == {
        "spec": {
            "type": "quantize",
            "base": "bard@1",
            "method": "gptq",
            "scheme": "W4A16",
            "group_size": 64,
            "options": {"damping": 0.05},
            "ignore": ["lm_head", "*.gate"],
            "keep_16bit": ["*.o_proj"],
            "overrides": [
                {"modules": ["*.down_proj"], "scheme": "W8A16", "group_size": 32},
                {"modules": ["*.k_proj"], "scheme": "W8A16", "group_size": None},
            ],
            "kv_cache": "fp8",
            "calibration": {"datasets": ["plays", "psalms@2"], "num_samples": 32, "length_tokens": 128, "seed": 7},
            "quality": {
                "corpora": ["news"],
                "thresholds": {"perplexity_ratio": 1.05, "task:piqa.acc": 0.5},
                "window_tokens": 256,
                "max_windows": 64,
                "extremes": False,
                "tasks": {"names": ["piqa"], "num_fewshot": None, "limit": None},
                "seed": 0,
            },
        },
    } | DEFAULTS | {"priority": 1}
    assert f"quantry jobs watch {JOB_ID}" in capsys.readouterr().out


def test_defaults_are_those_of_the_spec(server: FakeServer) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    assert run("jobs", "submit", "deploy", "--deployment", "chat", "--version", "bard") == 0
    assert sent(server)["spec"] == {
        "type": "deploy",
        "deployment": "chat",
        "version": "bard",
        "replicas": 1,
        "engine": {
            "engine": "vllm",
            "num_gpus": 1,
            "max_model_len_tokens": None,
            "kv_cache_bytes": 268435456,
            "max_num_seqs": 16,
            "max_adapters": 0,
            "max_adapter_rank": 16,
        },
        "ready_timeout_s": 600,
        "strategy": {"name": "immediate", "max_surge": 16, "max_unavailable": 0},
        "watch_s": 300.0,
        "scaling": None,
        "servers": [],
        "note": None,
    }
    assert sent(server)["priority"] == 5


def test_a_relative_source_is_taken_from_here_and_a_hub_id_is_left_alone(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    for given, expected in (("models/bard", str(tmp_path / "models/bard")), ("/abs", "/abs"), ("hf:owner/name@main", "hf:owner/name@main")):
        server.requests.clear()
        assert run("jobs", "submit", "import", "--model", "bard", "--source", given) == 0
        assert sent(server)["spec"]["source"] == expected


def test_a_method_without_text_and_quality(server: FakeServer) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    assert run("jobs", "submit", "quantize", "--base", "bard", "--method", "rtn", "--group-size", "channel", "--no-quality") == 0
    spec = sent(server)["spec"]
    assert (spec["group_size"], spec["calibration"], spec["quality"], spec["scheme"]) == ("channel", None, None, None)


def test_how_much_the_quality_gate_looks_at(server: FakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    line = "jobs submit quantize --base bard --method rtn"
    assert run(*line.split(), *["--quality-max-windows", "8", "--quality-window-tokens", "128", "--quality-seed", "3"]) == 0
    quality = sent(server)["spec"]["quality"]
    assert (quality["max_windows"], quality["window_tokens"], quality["seed"]) == (8, 128, 3)
    assert run(*line.split(), "--quality-max-windows", "0") == 2
    assert "--quality-max-windows: " in " ".join(capsys.readouterr().err.split())


def test_evaluate(server: FakeServer) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    assert run("jobs", "submit", "evaluate", "--version", "bard@2", "--against", "bard@1", "--corpus", "plays", "--max-windows", "4") == 0
    assert sent(server)["spec"] == {
        "type": "evaluate",
        "version": "bard@2",
        "against": "bard@1",
        "corpora": ["plays"],
        "window_tokens": 256,
        "stride_tokens": None,
        "max_windows": 4,
        "thresholds": {"perplexity_ratio": 1.02},
        "attention": False,
        "extremes": False,
        "tasks": None,
        "speed": None,
        "seed": 0,
    }


def test_evaluate_with_tasks_and_speed(server: FakeServer) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    line = "--version bard@2 --extremes --task piqa --task quantry_next_word --task-limit 8 --speed --concurrency 1 --concurrency 8"
    assert run("jobs", "submit", "evaluate", *line.split(), "--threshold", "task:piqa.acc=0.5") == 0
    spec = sent(server)["spec"]
    assert spec["tasks"] == {"names": ["piqa", "quantry_next_word"], "num_fewshot": None, "limit": 8}
    assert spec["speed"] == {"concurrency": [1, 8], "prompt_tokens": 64, "output_tokens": 32, "num_requests": 16}
    assert (spec["corpora"], spec["extremes"], spec["thresholds"]) == ([], True, {"task:piqa.acc": 0.5})


def test_recalibrate(server: FakeServer) -> None:
    server.on("POST", "/api/v1/jobs", answer(job(), 201))
    line = "--deployment chat --dataset traffic --corpus plays --corpus news --margin-nats 0.02 --rollout"
    assert run("jobs", "submit", "recalibrate", *line.split()) == 0
    spec = sent(server)["spec"]
    assert (spec["deployment"], spec["serving"], spec["recipe"]) == ("chat", None, None)
    assert (spec["datasets"], spec["corpora"], spec["alias"]) == (["traffic"], ["plays", "news"], "candidate")
    assert (spec["margin_nats"], spec["rollout"]) == (0.02, True)
