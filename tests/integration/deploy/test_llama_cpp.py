"""A real GGUF version, served by llama.cpp's own server through the process driver."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from factories.backends import ROOT, BackendRun, run_backend
from factories.pools import SERVED_NAME, ProcessPool
from quantry_core.jobs import EngineConfig, EngineKind, JobReason
from quantry_core.methods import Format
from quantry_core.rollouts import Release, Replica
from quantry_core.versions import ManifestFile, VersionDetail, VersionKind, manifest_digest
from quantry_deploy.observations import PullState

PYTHON = ROOT / ".venvs" / "engine-llama-cpp" / "bin" / "python"
ENGINE = EngineConfig(engine=EngineKind.LLAMA_CPP, kv_cache_bytes=16 * 1024**2, max_num_seqs=4)
PROMPT = "And the LORD said unto Moses,"


@pytest.fixture(scope="module")
def q8_0(tmp_path_factory: pytest.TempPathFactory) -> BackendRun:
    """The example model, quantized as a job quantizes it."""
    return run_backend(tmp_path_factory.mktemp("q8_0") / "run", {"method": "gguf", "scheme": "Q8_0"})


@pytest.fixture
async def pool(tmp_path: Path) -> AsyncIterator[ProcessPool]:
    made = ProcessPool(tmp_path)
    made.settings = made.settings.model_copy(
        update={"llama_cpp_python": PYTHON, "llama_cpp_script": ROOT / "services" / "engine" / "serve_llama_cpp.py"}
    )
    yield made
    await made.close()


def version_of(pool: ProcessPool, ran: BackendRun) -> VersionDetail:
    """Returns the version that such a job makes; its files are in the vault."""
    contents = {path.name: path.read_bytes() for path in ran.output_dir.iterdir()}
    files = [
        ManifestFile(path=name, size_bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
        for name, content in sorted(contents.items())
    ]
    pool.shelf.contents |= {hashlib.sha256(content).hexdigest(): content for content in contents.values()}
    changes = {"kind": VersionKind.QUANTIZED, "format": Format.GGUF, "scheme": "Q8_0", "files": files}
    return pool.version().model_copy(update={**changes, "manifest_digest": manifest_digest(files), "weights_bytes": ran.weights_bytes})


def served(pool: ProcessPool, version: VersionDetail, **changes: Any) -> Release:
    return pool.release(version, engine=ENGINE.model_copy(update=changes))


async def text(replica: Replica, **more: Any) -> str:
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        body = {"model": SERVED_NAME, "prompt": PROMPT, "temperature": 0, "max_tokens": 16, **more}
        answer = await client.post(f"{replica.url}/v1/completions", json=body)
    document = answer.raise_for_status().json()
    assert document["model"] == SERVED_NAME
    return str(document["choices"][0]["text"])


async def test_it_is_proven_speaks_and_says_how_busy_it_is(pool: ProcessPool, q8_0: BackendRun) -> None:
    version = version_of(pool, q8_0)
    replica = await pool.ready(version, served(pool, version))
    first, again = await text(replica), await text(replica)
    assert first == again and len(first.split()) > 5
    seen = await pool.until_seen(replica, lambda seen: seen.num_waiting is not None)
    assert (seen.num_waiting, seen.kv_use) == (0.0, None)
    # Another replica's engine on the port would not be taken for this one.
    other = replica.model_copy(update={"id": "rep_other"})
    doubted = await pool.until_seen(other, lambda seen: bool(seen.doubt))
    assert "not chat as replica rep_other" in doubted.doubt


async def test_a_stream_that_runs_is_finished_after_it_was_asked_to_end(pool: ProcessPool, q8_0: BackendRun) -> None:
    version = version_of(pool, q8_0)
    replica = await pool.ready(version, served(pool, version))
    body = {"model": SERVED_NAME, "prompt": PROMPT, "max_tokens": 900, "temperature": 0, "stream": True, "ignore_eos": True}
    events: list[str] = []
    async with (
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
        client.stream("POST", f"{replica.url}/v1/completions", json=body) as answer,
    ):
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                events.append(line.removeprefix("data: "))
            if len(events) == 1:
                await pool.driver.terminate(replica)
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["usage"]["completion_tokens"] == 900
    gone = await pool.until_seen(replica, lambda seen: not seen.is_running)
    assert gone.ending == "ended with exit status 0"


async def test_more_requests_than_it_has_sequences_wait_and_are_all_answered(pool: ProcessPool, q8_0: BackendRun) -> None:
    version = version_of(pool, q8_0)
    replica = await pool.ready(version, served(pool, version, max_num_seqs=2))
    answers = await asyncio.gather(*(text(replica, max_tokens=64) for _ in range(6)))
    assert len(set(answers)) == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"engine": EngineKind.VLLM}, "vllm 0.32 on cpu cannot load Q8_0 in format gguf; llama.cpp on cpu"),
        ({"max_adapters": 1}, "llama.cpp loads no adapters while it runs"),
        ({"max_model_len_tokens": 2048}, "knows 1024 positions"),
    ],
)
async def test_what_it_could_not_serve_so_is_refused_with_the_reason(
    pool: ProcessPool, q8_0: BackendRun, changes: dict[str, Any], words: str
) -> None:
    version = version_of(pool, q8_0)
    release = served(pool, version, **changes)
    assert await pool.pulled(version, release) is PullState.REFUSED
    refused = pool.driver.pull_status(version, release)
    assert (refused.reason, words in refused.message) == (JobReason.INVALID_INPUT, True), refused.message
