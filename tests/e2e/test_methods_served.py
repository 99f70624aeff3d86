"""vLLM serves what each method makes, straight from the registry, and chooses the tokens that transformers finds likeliest."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from e2e.conftest import ROOT, Platform
from factories.child_runs import WITHOUT_GARBAGE
from factories.forked import run_script
from quantry.errors import ApiError
from quantry_core.jobs import CalibrationSpec, DeploySpec, JobStatus, QuantizeSpec
from quantry_core.versions import VersionDetail
from quantry_local.demo_steps import CALIBRATION_CORPORA

PROMPTS = ("And God said unto Moses,", "My fellow citizens,", "KING RICHARD:", "The")
NUM_TOKENS = 16
MAX_GAP_NATS = 0.2
"""An engine computes in half precision and rounds sums in another order: where two tokens are as likely, either may come first."""
MIN_SHARE_LIKELIEST = 0.85
GREEDY = Path(__file__).parent / "greedy_agreement.py"
TEXT = CalibrationSpec(datasets=[f"{corpus}.calibration" for corpus in CALIBRATION_CORPORA], num_samples=32, length_tokens=256)


def served_tokens(platform: Platform, deployment: str) -> list[dict[str, list[int]]]:
    """Returns the greedy tokens of each prompt as the gateway gives them."""
    answers = []
    for prompt in PROMPTS:
        body = {"model": deployment, "prompt": prompt, "max_tokens": NUM_TOKENS, "temperature": 0, "return_token_ids": True}
        headers = {"Authorization": f"Bearer {platform.api_key}"}
        answer = httpx.post(f"{platform.url}/v1/completions", json=body, headers=headers, timeout=120, trust_env=False)
        assert answer.status_code == 200, answer.text
        (choice,) = answer.json()["choices"]
        answers.append({"prompt": choice["prompt_token_ids"], "tokens": choice["token_ids"]})
    return answers


def check_agreement(answers: list[dict[str, list[int]]], checkpoint: Path, environment: str = "ml", *, adapter: Path | None = None) -> None:
    """Fails unless transformers, loading the same checkpoint (and PEFT its adapter), finds those tokens likeliest, or as good as."""
    arguments = [checkpoint, *([] if adapter is None else [adapter])]
    said = _greedy(json.dumps(answers), arguments, environment)
    gaps = [gap for row in json.loads(said.splitlines()[-1]) for gap in row]
    assert len(gaps) >= len(PROMPTS)
    assert max(gaps) <= MAX_GAP_NATS, gaps
    assert sum(gap == 0 for gap in gaps) / len(gaps) >= MIN_SHARE_LIKELIEST, gaps


def _greedy(given: str, arguments: Sequence[Path], environment: str) -> str:
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    if environment == "ml":
        return run_script(GREEDY, *arguments, variables=variables, given=given)
    command = [str(ROOT / ".venvs" / environment / "bin" / "python"), str(WITHOUT_GARBAGE), str(GREEDY), *map(str, arguments)]
    finished = subprocess.run(command, input=given, env=variables, capture_output=True, text=True, check=False, timeout=300)
    assert finished.returncode == 0, finished.stderr[-3000:]
    return finished.stdout


def deploy(platform: Platform, version: VersionDetail, name: str) -> None:
    platform.succeed(DeploySpec(deployment=name, version=version.id))
    # The gateway hears of the deployment, and then of its replica, a moment after the rollout has ended.
    deadline = time.monotonic() + 20
    headers = {"Authorization": f"Bearer {platform.api_key}"}
    body = {"model": name, "prompt": PROMPTS[0], "max_tokens": 1}
    while (answer := httpx.post(f"{platform.url}/v1/completions", json=body, headers=headers, timeout=60, trust_env=False)).is_error:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)


def check_served(platform: Platform, spec: QuantizeSpec, name: str, directory: Path, environment: str = "ml") -> VersionDetail:
    """Quantizes, deploys, asks and compares; returns the version."""
    version = platform.version_of(platform.succeed(spec))
    deploy(platform, version, name)
    try:
        answers = served_tokens(platform, name)
    finally:
        platform.client.deployments.stop(name)
    platform.client.versions.export(version.id, directory)
    check_agreement(answers, directory, environment)
    return version


def test_w8a8_by_smoothquant(platform: Platform, master: VersionDetail, tmp_path: Path) -> None:
    """W4A16 by GPTQ is looked at in test_serving.py, where it is served already."""
    spec = QuantizeSpec(base=master.id, method="smoothquant", calibration=TEXT)
    version = check_served(platform, spec, "eight-bits", tmp_path / "eight-bits")
    assert (version.scheme, version.format) == ("W8A8", "compressed-tensors")


LOOSE = {"thresholds": {"perplexity_ratio": 1.05}}
"""Rounding without text, or with little of it, costs this example model more than two percent."""
LONG: dict[str, dict[str, Any]] = {
    "fp8-dynamic": {"method": "fp8"},
    "awq": {
        "method": "awq",
        "calibration": TEXT.model_copy(update={"num_samples": 8}),
        "options": {"num_grid": 4},
        "quality": LOOSE,
    },
    "hqq": {"method": "hqq", "quality": LOOSE},
    "rtn-asymmetric": {
        "method": "rtn",
        "group_size": 64,
        "options": {"symmetric": False},
        "quality": LOOSE,
    },
    "autoround-light": {"method": "autoround", "calibration": TEXT.model_copy(update={"num_samples": 8}), "options": {"preset": "light"}},
    "gptqmodel": {"method": "gptqmodel", "calibration": TEXT},
}


@pytest.mark.long
@pytest.mark.parametrize("name", LONG)
def test_every_other_method_that_vllm_serves(platform: Platform, master: VersionDetail, name: str, tmp_path: Path) -> None:
    spec = QuantizeSpec.model_validate({"base": master.id, **LONG[name]})
    check_served(platform, spec, name, tmp_path / name, "gptqmodel" if name == "gptqmodel" else "ml")


def test_what_vllm_cannot_load_is_refused_before_work_starts(platform: Platform, master: VersionDetail) -> None:
    made = platform.run(QuantizeSpec(base=master.id, method="bitsandbytes", quality=None))
    assert made.status is JobStatus.SUCCEEDED, made.message
    version = platform.version_of(made)
    with pytest.raises(ApiError, match="cannot load NF4") as refusal:
        platform.client.jobs.submit(DeploySpec(deployment="not-here", version=version.id))
    assert "W4A16 (compressed-tensors)" in str(refusal.value)


@pytest.mark.long
def test_calibrated_fp8_is_made_and_vllm_on_a_cpu_is_not_asked_to_load_it(platform: Platform, master: VersionDetail) -> None:
    version = platform.version_of(platform.succeed(QuantizeSpec(base=master.id, method="fp8", scheme="FP8", calibration=TEXT)))
    with pytest.raises(ApiError, match="cannot load FP8"):
        platform.client.jobs.submit(DeploySpec(deployment="not-here", version=version.id))


def test_a_cuda_only_method_says_so_before_work_starts(platform: Platform, master: VersionDetail) -> None:
    with pytest.raises(ApiError, match="runs on cuda only") as refusal:
        platform.client.jobs.submit(QuantizeSpec(base=master.id, method="eetq"))
    assert "take W8A16 by method rtn or gptq" in str(refusal.value)
