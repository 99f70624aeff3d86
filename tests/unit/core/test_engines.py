"""The table of engines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from quantry_core.engines import ENGINES, config_refused, engine_of, kv_token_bytes
from quantry_core.jobs import EngineConfig, EngineKind
from quantry_core.methods import DeviceKind, Format, Scheme
from quantry_core.servability import SUPPORT, not_served

BARD = Path(__file__).parents[3] / "examples" / "bard-6m" / "config.json"


def test_every_engine_has_a_row_and_loads_something() -> None:
    assert set(ENGINES) == set(EngineKind)
    assert {engine_of(kind) for kind in EngineKind} <= {row.engine for row in SUPPORT}
    assert {kind for kind, row in ENGINES.items() if row.is_run_here} == {EngineKind.VLLM, EngineKind.LLAMA_CPP}


@pytest.mark.parametrize(
    ("kind", "format_", "scheme", "device", "is_served"),
    [
        (EngineKind.LLAMA_CPP, Format.GGUF, Scheme.Q4_K_M, DeviceKind.CPU, True),
        (EngineKind.LLAMA_CPP, Format.SAFETENSORS, None, DeviceKind.CPU, False),
        (EngineKind.VLLM, Format.GGUF, Scheme.Q4_K_M, DeviceKind.CPU, False),
        (EngineKind.SGLANG, Format.COMPRESSED_TENSORS, Scheme.W4A16, DeviceKind.CUDA, True),
        (EngineKind.SGLANG, Format.COMPRESSED_TENSORS, Scheme.W4A16, DeviceKind.CPU, False),
        (EngineKind.LMDEPLOY, Format.GPTQ, Scheme.W4A16, None, True),
        (EngineKind.LMDEPLOY, Format.COMPRESSED_TENSORS, Scheme.W4A16, None, False),
    ],
)
def test_what_an_engine_loads_is_asked_by_its_kind(
    kind: EngineKind, format_: Format, scheme: Scheme | None, device: DeviceKind | None, is_served: bool
) -> None:
    sentence = not_served(format_, {scheme}, engine_of(kind), device)
    assert (sentence is None) is is_served
    if sentence is not None:
        assert sentence.startswith(str(engine_of(kind)))


def test_adapters_come_only_into_engines_that_load_them_and_that_the_platform_starts() -> None:
    assert config_refused(EngineConfig(max_adapters=2)) is None
    assert config_refused(EngineConfig(engine=EngineKind.LLAMA_CPP)) is None
    refused = config_refused(EngineConfig(engine=EngineKind.LLAMA_CPP, max_adapters=2))
    assert refused == "llama.cpp loads no adapters while it runs; set max_adapters to 0, or take vllm"
    assert "the platform starts" in str(config_refused(EngineConfig(max_adapters=2), has_servers=True))


@pytest.mark.parametrize(
    ("config", "size_bytes"),
    [
        (json.loads(BARD.read_text()), 2 * 6 * 2 * 64 * 2),
        ({"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}, 131072),
        ({"num_hidden_layers": 32, "num_attention_heads": 32, "hidden_size": 4096}, 524288),
        ({"num_hidden_layers": 32}, None),
        ({"num_hidden_layers": 0, "num_attention_heads": 32, "hidden_size": 4096}, None),
        ({}, None),
    ],
)
def test_what_a_token_takes_in_the_cache(config: dict[str, Any], size_bytes: int | None) -> None:
    assert kv_token_bytes(config) == size_bytes
