"""Command lines of the engines, held to the flags that their documentation has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quantry_core.errors import NotServable
from quantry_core.jobs import EngineConfig, EngineKind
from quantry_deploy.drivers.launches import ARGUMENTS, Serving, engine_arguments, engine_command, engine_environment, program
from quantry_deploy.settings import DeploySettings

CONFIG: dict[str, Any] = {
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 1024,
}
TOKEN_BYTES = 2 * 6 * 2 * 64 * 2

SGLANG_FLAGS = frozenset(
    {
        *("--model-path", "--served-model-name", "--weight-version", "--host", "--port", "--enable-metrics"),
        *("--max-running-requests", "--max-total-tokens", "--context-length", "--tensor-parallel-size"),
    }
)
"""Of those in SGLang's page on server arguments."""

LMDEPLOY_FLAGS = frozenset(
    {
        *("--model-name", "--server-name", "--server-port", "--max-batch-size", "--cache-block-seq-len"),
        *("--cache-max-entry-count", "--session-len", "--tp"),
    }
)
"""Of those that ``lmdeploy serve api_server`` takes."""


def serving(kind: EngineKind, *, num_gpus: int = 0, **engine: Any) -> Serving:
    config = EngineConfig.model_validate({"engine": kind, "kv_cache_bytes": 2**26, "max_num_seqs": 4, **engine})
    return Serving(config, CONFIG, "/files", "chat", "rep_1", "127.0.0.1", 8001, 120.0, num_gpus)


def settings(tmp_path: Path, **more: Any) -> DeploySettings:
    pythons: dict[str, Any] = {"engine_python": Path("/vllm/python"), "engine_script": Path("/engine/serve.py")}
    return DeploySettings(deploy_port=1, deploy_dir=tmp_path, **{**pythons, **more})


def test_every_engine_has_a_command_line() -> None:
    assert set(ARGUMENTS) == set(EngineKind)
    assert all("--trust-remote-code" not in engine_arguments(serving(kind)) for kind in EngineKind)


def test_vllm_is_started_by_its_script_with_typed_settings_alone(tmp_path: Path) -> None:
    assert engine_command(settings(tmp_path), serving(EngineKind.VLLM, max_model_len_tokens=512)) == [
        *("/vllm/python", "-P", "/engine/serve.py", "--model", "/files", "--served-model-name", "chat", "rep_1"),
        *("--host", "127.0.0.1", "--port", "8001", "--kv-cache-bytes", "67108864", "--max-num-seqs", "4"),
        *("--shutdown-timeout", "120", "--max-model-len", "512"),
    ]
    plain = engine_arguments(serving(EngineKind.VLLM, num_gpus=1))
    assert not {"--max-model-len", "--num-gpus", "--max-adapters"} & set(plain)
    spread = engine_arguments(serving(EngineKind.VLLM, num_gpus=2, max_adapters=3, max_adapter_rank=32))
    assert spread[-6:] == ["--max-adapters", "3", "--max-adapter-rank", "32", "--num-gpus", "2"]


def test_llama_cpp_has_as_many_sequences_as_its_cache_holds_whole(tmp_path: Path) -> None:
    fits = serving(EngineKind.LLAMA_CPP, kv_cache_bytes=2**24)
    assert 2**24 // (TOKEN_BYTES * 1024) == 5
    assert engine_command(settings(tmp_path, llama_cpp_python=Path("/llama/python")), fits) == [
        *("/llama/python", "-P", "/engine/serve_llama_cpp.py", "--model", "/files", "--served-model-name", "chat", "--mark", "rep_1"),
        *("--host", "127.0.0.1", "--port", "8001", "--slots", "4", "--context-tokens", "1024", "--shutdown-timeout", "120"),
    ]
    fewer = engine_arguments(serving(EngineKind.LLAMA_CPP, kv_cache_bytes=2**24, max_num_seqs=16))
    assert fewer[fewer.index("--slots") + 1] == "5"


def test_a_cache_that_holds_no_whole_sequence_is_refused_with_the_numbers() -> None:
    long = replace(serving(EngineKind.LLAMA_CPP, kv_cache_bytes=2**24), config={**CONFIG, "max_position_embeddings": 131072})
    with pytest.raises(
        NotServable, match=rf"one sequence of 131072 tokens takes {131072 * TOKEN_BYTES} bytes and kv_cache_bytes is 16777216"
    ):
        engine_arguments(long)
    for kind in (EngineKind.SGLANG, EngineKind.LMDEPLOY):
        with pytest.raises(NotServable, match="holds 5461 tokens and one sequence may have 131072"):
            engine_arguments(replace(serving(kind, kv_cache_bytes=2**24), config=long.config))


@pytest.mark.parametrize("kind", [EngineKind.LLAMA_CPP, EngineKind.SGLANG, EngineKind.LMDEPLOY])
def test_a_config_that_does_not_tell_the_size_of_a_token_is_refused(kind: EngineKind) -> None:
    with pytest.raises(NotServable, match="does not say"):
        engine_arguments(replace(serving(kind), config={"max_position_embeddings": 1024}))


def test_sglang_is_told_the_tokens_that_its_cache_holds(tmp_path: Path) -> None:
    words = engine_command(
        settings(tmp_path, sglang_python=Path("/sglang/python")), serving(EngineKind.SGLANG, num_gpus=2, max_model_len_tokens=512)
    )
    assert words[:4] == ["/sglang/python", "-P", "-m", "sglang.launch_server"]
    assert words[words.index("--max-total-tokens") + 1] == str(2**26 // TOKEN_BYTES)
    assert words[words.index("--weight-version") + 1] == "rep_1"
    assert {word for word in words if word.startswith("--")} == SGLANG_FLAGS


def test_lmdeploy_is_told_the_blocks_that_its_cache_holds(tmp_path: Path) -> None:
    words = engine_command(
        settings(tmp_path, lmdeploy_python=Path("/lmdeploy/python")), serving(EngineKind.LMDEPLOY, num_gpus=2, max_model_len_tokens=512)
    )
    assert words[:7] == ["/lmdeploy/python", "-P", "-m", "lmdeploy", "serve", "api_server", "/files"]
    assert words[words.index("--cache-max-entry-count") + 1] == str(2**26 // TOKEN_BYTES // 64)
    assert {word for word in words if word.startswith("--")} == LMDEPLOY_FLAGS


@pytest.mark.parametrize(
    ("kind", "variable"),
    [
        (EngineKind.LLAMA_CPP, "QUANTRY_LLAMA_CPP_PYTHON"),
        (EngineKind.SGLANG, "QUANTRY_SGLANG_PYTHON"),
        (EngineKind.LMDEPLOY, "QUANTRY_LMDEPLOY_PYTHON"),
    ],
)
def test_an_engine_whose_environment_is_not_there_is_refused_by_name(tmp_path: Path, kind: EngineKind, variable: str) -> None:
    with pytest.raises(NotServable, match=f"{kind} is not installed where engines are started: {variable} is not set"):
        program(settings(tmp_path), kind)


def test_engines_stay_offline_and_leave_their_environment_readable() -> None:
    assert engine_environment(EngineKind.SGLANG) == {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
        "SPT_NOENV": "1",
    }
    assert engine_environment(EngineKind.VLLM) == {"SPT_NOENV": "1"}
