"""A real vLLM serves the quantized version behind the gateway, and a bare one serves its export."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import NotFoundError, OpenAI

from e2e.conftest import ROOT, Platform
from factories.servers import free_port
from quantry_core.jobs import DeploySpec
from quantry_core.versions import VersionDetail

DEPLOYMENT = "bard"
PROMPT = "And God said unto Moses,"
ENGINE_START_S = 240


@pytest.fixture(scope="module")
def deployment(platform: Platform, quantized: VersionDetail) -> Iterator[str]:
    """The quantized version deployed on one vLLM replica; stopped at the end to give its memory back."""
    platform.succeed(DeploySpec(deployment=DEPLOYMENT, version=quantized.id))
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
