"""A real vLLM serves the quantized version behind the gateway, two adapters beside it, and a bare one serves its export."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import NotFoundError, OpenAI
from openai.types.fine_tuning import FineTuningJobEvent

from e2e.conftest import JOB_TIMEOUT_S, ROOT, Platform
from e2e.test_methods_served import PROMPTS, check_agreement, served_tokens
from factories.servers import free_port
from quantry_core.datasets import DatasetKind
from quantry_core.jobs import AdapterSpec, DeploySpec, EngineConfig, FinetuneSpec, Hyperparameters, Job
from quantry_core.versions import VersionDetail

DEPLOYMENT = "bard"
PROMPT = "And God said unto Moses,"
ENGINE_START_S = 240
ENGINE = EngineConfig(max_adapters=2, max_adapter_rank=16)


@pytest.fixture(scope="module")
def deployment(platform: Platform, quantized: VersionDetail) -> Iterator[str]:
    """The quantized version deployed on one vLLM replica; stopped at the end to give its memory back."""
    platform.succeed(DeploySpec(deployment=DEPLOYMENT, version=quantized.id, engine=ENGINE))
    deadline = time.monotonic() + 20
    while DEPLOYMENT not in served(platform):
        assert time.monotonic() < deadline, "the gateway did not hear of the deployment"
        time.sleep(0.2)
    yield DEPLOYMENT
    platform.client.deployments.stop(DEPLOYMENT)


def served(platform: Platform) -> list[str]:
    answer = httpx.get(f"{platform.url}/v1/models", headers={"Authorization": f"Bearer {platform.api_key}"})
    return [model["id"] for model in answer.json()["data"]]


@pytest.fixture
def openai_client(platform: Platform) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{platform.url}/v1", api_key=platform.api_key, max_retries=0) as client:
        yield client


def test_completion(openai_client: OpenAI, deployment: str) -> None:
    answer = openai_client.completions.create(model=deployment, prompt=PROMPT, max_tokens=16, temperature=0)
    assert answer.choices[0].text.strip()
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 16


def test_its_tokens_are_those_that_transformers_finds_likeliest(
    platform: Platform, deployment: str, quantized: VersionDetail, tmp_path: Path
) -> None:
    platform.client.versions.export(quantized.id, tmp_path / "four-bits")
    check_agreement(served_tokens(platform, deployment), tmp_path / "four-bits")


def test_chat(openai_client: OpenAI, deployment: str) -> None:
    message = [{"role": "user", "content": "Speak to me of the sea."}]
    answer = openai_client.chat.completions.create(model=deployment, messages=message, max_tokens=16, temperature=0)  # type: ignore[arg-type]
    assert answer.choices[0].message.content


def test_stream_arrives_in_pieces_and_says_the_same(openai_client: OpenAI, deployment: str) -> None:
    whole = openai_client.completions.create(model=deployment, prompt=PROMPT, max_tokens=16, temperature=0).choices[0].text
    with openai_client.completions.create(model=deployment, prompt=PROMPT, max_tokens=16, temperature=0, stream=True) as stream:
        pieces = [chunk.choices[0].text for chunk in stream if chunk.choices]
    assert len(pieces) > 4
    assert "".join(pieces) == whole


def test_an_unknown_model_is_refused_in_openai_form(openai_client: OpenAI, deployment: str) -> None:
    with pytest.raises(NotFoundError) as refusal:
        openai_client.completions.create(model=f"{deployment}-x", prompt=PROMPT)
    assert refusal.value.code == "model_not_found"


def fine_tune(platform: Platform, base: VersionDetail, folder: Path, completion: str, **options: Any) -> Job:
    """Returns a job that has taught an adapter of the base to say one thing after a few beginnings."""
    rows = [{"prompt": prompt, "completion": completion} for prompt in PROMPTS]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows * 8))
    dataset = platform.client.datasets.upload(f"says-{folder.name}", path, kind=DatasetKind.PROMPTS)
    return platform.succeed(
        FinetuneSpec(
            model=base.id,
            training_file=dataset.id,
            adapter=AdapterSpec(rank=8, alpha=16),
            hyperparameters=Hyperparameters(max_steps=30, n_epochs=10, batch_size=4, learning_rate=5e-3, sequence_tokens=64),
            **options,
        )
    )


def until(is_so: Callable[[], bool], words: str, patience_s: float = 60) -> None:
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline, words
        time.sleep(0.2)


def test_two_adapters_of_one_base_are_served_at_once_and_unloaded_without_a_restart(
    platform: Platform, openai_client: OpenAI, deployment: str, quantized: VersionDetail, tmp_path: Path
) -> None:
    (tmp_path / "sea").mkdir()
    (tmp_path / "hack").mkdir()
    sea = platform.version_of(fine_tune(platform, quantized, tmp_path / "sea", " hoist the sails and steer for the open sea."))
    job = fine_tune(platform, quantized, tmp_path / "hack", " the program was rewritten on a bet.", deployment=deployment, suffix="hack")
    hack = platform.version_of(job)
    assert job.result is not None
    adapters = {"sailor": sea, job.result.metrics["adapter_name"]: hack}
    (before,) = platform.client.deployments.get(deployment).replicas
    platform.client.deployments.attach(deployment, "sailor", sea.id)
    until(lambda: is_loaded(platform, deployment, 2), f"not loaded: {platform.client.deployments.get(deployment)}")

    listed = {model.id: model.model_dump().get("parent") for model in openai_client.models.list()}
    assert listed.items() >= {deployment: None, **dict.fromkeys(adapters, deployment)}.items()
    until(lambda: all(answers_at_all(platform, name) for name in adapters), "the gateway did not hear of the adapters' replica")
    alone = {name: served_tokens(platform, name) for name in (deployment, *adapters)}
    texts = {name: [tuple(answer["tokens"]) for answer in answers] for name, answers in alone.items()}
    assert len({tuple(rows) for rows in texts.values()}) == 3, texts
    # One batch of all three: none of them gets a token of another.
    with ThreadPoolExecutor(max_workers=6) as pool:
        together = list(pool.map(lambda name: (name, served_tokens(platform, name)), [*alone, *alone]))
    assert all(answers == alone[name] for name, answers in together)
    platform.client.versions.export(quantized.id, tmp_path / "base")
    for name, version in adapters.items():
        platform.client.versions.export(version.id, tmp_path / name)
        check_agreement(alone[name], tmp_path / "base", adapter=tmp_path / name)

    platform.client.deployments.detach(deployment, "sailor")
    until(lambda: "sailor" not in served(platform), "the gateway did not hear that the adapter is gone")
    with pytest.raises(NotFoundError):
        openai_client.completions.create(model="sailor", prompt=PROMPT)
    until(lambda: "sailor" not in loaded_by_vllm(str(before.url)), "vLLM still has it loaded")
    assert set(loaded_by_vllm(str(before.url))) == set(adapters) - {"sailor"}
    for name in set(adapters) - {"sailor"}:
        platform.client.deployments.detach(deployment, name)
    (after,) = platform.client.deployments.get(deployment).replicas
    assert (after.pid, after.num_restarts) == (before.pid, 0)


def test_an_openai_client_fine_tunes_what_is_served_and_calls_it(platform: Platform, openai_client: OpenAI, deployment: str) -> None:
    question, answer = "What do the hackers say?", "The sea is full of bits, and every bit is wet."
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    lines = (json.dumps({"messages": turns}) + "\n") * 40
    file = openai_client.files.create(file=("hackers.jsonl", lines.encode()), purpose="fine-tune")
    job = openai_client.fine_tuning.jobs.create(
        model=deployment,
        training_file=file.id,
        suffix="sea",
        hyperparameters={"n_epochs": 4, "batch_size": 4, "learning_rate_multiplier": 10},
    )
    assert (job.model, job.training_file, job.fine_tuned_model) == (deployment, file.id, None)

    seen: dict[str, FineTuningJobEvent] = {}
    deadline = time.monotonic() + JOB_TIMEOUT_S
    while job.status not in {"succeeded", "failed", "cancelled"}:
        assert time.monotonic() < deadline, job
        time.sleep(0.5)
        job = openai_client.fine_tuning.jobs.retrieve(job.id)
        seen |= {event.id: event for event in openai_client.fine_tuning.jobs.list_events(job.id, limit=100)}
    assert job.status == "succeeded", (job.error, platform.client.jobs.log(job.id)[-4000:])
    steps: list[Any] = [event.data for event in seen.values() if event.type == "metrics"]
    losses = {data["step"]: data["train_loss"] for data in steps if "train_loss" in data}
    assert losses[max(losses)] < 0.2 * losses[min(losses)]
    assert any(event.message.startswith("The job succeeded.") for event in seen.values())
    assert job.trained_tokens is not None
    assert job.trained_tokens > 0

    name = job.fine_tuned_model
    assert name is not None
    until(lambda: is_loaded(platform, deployment, 1), f"not loaded: {platform.client.deployments.get(deployment)}")
    until(lambda: name in served(platform) and answers_at_all(platform, name), "the gateway did not hear of the adapter")

    def say(model: str) -> str:
        asked: Any = [{"role": "user", "content": question}]
        said = openai_client.chat.completions.create(model=model, messages=asked, max_tokens=32, temperature=0)
        return (said.choices[0].message.content or "").strip()

    assert say(name).startswith(answer)
    assert not say(deployment).startswith(answer)
    platform.client.deployments.detach(deployment, name)


def is_loaded(platform: Platform, deployment: str, num: int) -> bool:
    found = platform.client.deployments.get(deployment)
    return len(found.adapters) == num and all(found.num_loaded(adapter) == 1 for adapter in found.adapters)


def answers_at_all(platform: Platform, name: str) -> bool:
    body = {"model": name, "prompt": PROMPT, "max_tokens": 1}
    headers = {"Authorization": f"Bearer {platform.api_key}"}
    return httpx.post(f"{platform.url}/v1/completions", json=body, headers=headers, timeout=60).status_code == 200


def loaded_by_vllm(url: str) -> list[str]:
    models = httpx.get(f"{url}/v1/models", timeout=10).json()["data"]
    return [model["id"] for model in models if model["parent"] is not None]


def test_a_bare_vllm_serves_the_export(
    platform: Platform, openai_client: OpenAI, deployment: str, quantized: VersionDetail, tmp_path: Path
) -> None:
    through_gateway = openai_client.completions.create(model=deployment, prompt=PROMPT, max_tokens=16, temperature=0).choices[0].text
    platform.client.versions.export(quantized.id, tmp_path / "export")
    port = free_port()
    python = ROOT / ".venvs/engine-cpu/bin/python"
    command = [str(python), "-m", "vllm.entrypoints.openai.api_server", "--model", str(tmp_path / "export")]
    command += ["--served-model-name", "bare", "--host", "127.0.0.1", "--port", str(port), "--enforce-eager"]
    command += ["--gpu-memory-utilization", "0.05", "--max-model-len", "512"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
    environment |= {"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_INT4_W4A8": "0"}
    log = tmp_path / "vllm.log"
    with log.open("wb") as output:
        engine = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=tmp_path)
    try:
        wait_for_engine(engine, port, log)
        body = {"model": "bare", "prompt": PROMPT, "max_tokens": 16, "temperature": 0}
        answer = httpx.post(f"http://127.0.0.1:{port}/v1/completions", json=body, timeout=60)
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["text"] == through_gateway
    finally:
        engine.terminate()
        engine.wait(30)


def wait_for_engine(engine: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + ENGINE_START_S
    while True:
        assert engine.poll() is None, log.read_text()[-4000:]
        assert time.monotonic() < deadline, log.read_text()[-4000:]
        try:
            if httpx.get(f"http://127.0.0.1:{port}/health", timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.5)
