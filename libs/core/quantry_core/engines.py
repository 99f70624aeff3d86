"""The servers that a release may be started with, and what each of them can do. One literal table.

vLLM and llama.cpp's server are started by the tests of this repository. The rows of SGLang and LMDeploy are told from their
documentation and code; no test here has run them.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from quantry_core.jobs.specs.deploy import EngineConfig, EngineKind
from quantry_core.servability import EngineName


class Mark(StrEnum):
    """Where an engine shows the id of the replica that it was started for. Another process that took its port does not show it."""

    LISTED = "listed"
    """Beside the model in /v1/models: as a second id, or as a tag of the model."""
    WEIGHT_VERSION = "weight_version"
    """As ``weight_version`` of /model_info."""
    NONE = "none"
    """Nowhere: only the model's name tells."""


class Drain(StrEnum):
    """What SIGTERM does to requests that run."""

    BOUNDED = "bounded"
    """They are finished, or cut after the time that the engine was given at its start."""
    UNBOUNDED = "unbounded"
    """They are finished, however long that takes: whoever sent SIGTERM kills it in the end."""


class Gauges(BaseModel):
    """Names of the gauges in an engine's /metrics; None: it has no such."""

    model_config = ConfigDict(frozen=True)

    running: str
    waiting: str
    kv_use: str | None = Field(description="Of the KV cache, a share from 0 to 1.")


class EngineInfo(BaseModel):
    """One row: how an engine is asked, and what it does when it ends."""

    model_config = ConfigDict(frozen=True)

    name: EngineName
    health_path: str = Field(default="/health", description="Answers 200 once the model is loaded.")
    models_path: str = "/v1/models"
    proof_path: str = Field(default="/v1/completions", description="Asked for one token before a replica is called ready.")
    metrics_path: str = "/metrics"
    mark: Mark
    gauges: Gauges
    drain: Drain
    loads_adapters: bool = Field(description="Whether adapters may come and go while it runs.")
    is_run_here: bool = Field(description="Whether this repository's tests start it; otherwise the row is told from its documentation.")


ENGINES: dict[EngineKind, EngineInfo] = {
    EngineKind.VLLM: EngineInfo(
        name=EngineName.VLLM,
        mark=Mark.LISTED,
        gauges=Gauges(running="vllm:num_requests_running", waiting="vllm:num_requests_waiting", kv_use="vllm:kv_cache_usage_perc"),
        drain=Drain.BOUNDED,
        loads_adapters=True,
        is_run_here=True,
    ),
    EngineKind.LLAMA_CPP: EngineInfo(
        name=EngineName.LLAMA_CPP,
        mark=Mark.LISTED,
        gauges=Gauges(running="llamacpp:requests_processing", waiting="llamacpp:requests_deferred", kv_use=None),
        drain=Drain.BOUNDED,
        loads_adapters=False,
        is_run_here=True,
    ),
    EngineKind.SGLANG: EngineInfo(
        name=EngineName.SGLANG,
        mark=Mark.WEIGHT_VERSION,
        gauges=Gauges(running="sglang:num_running_reqs", waiting="sglang:num_queue_reqs", kv_use="sglang:token_usage"),
        drain=Drain.UNBOUNDED,
        loads_adapters=False,
        is_run_here=False,
    ),
    EngineKind.LMDEPLOY: EngineInfo(
        name=EngineName.LMDEPLOY,
        mark=Mark.NONE,
        gauges=Gauges(
            running="lmdeploy:num_requests_running", waiting="lmdeploy:num_requests_waiting", kv_use="lmdeploy:gpu_cache_usage_perc"
        ),
        drain=Drain.UNBOUNDED,
        loads_adapters=False,
        is_run_here=False,
    ),
}


def engine_of(kind: EngineKind) -> EngineName:
    """Returns the name by which the servability table knows a release's engine."""
    return ENGINES[kind].name


def config_refused(config: EngineConfig, *, has_servers: bool = False) -> str | None:
    """Returns why no engine can be started so, with what to do instead; None if one can.

    ``has_servers``: the release is served by servers that someone else runs.
    """
    if not config.max_adapters:
        return None
    if has_servers:
        return "adapters are loaded only into engines that the platform starts; set max_adapters to 0"
    if not ENGINES[config.engine].loads_adapters:
        able = ", ".join(sorted(row.name for row in ENGINES.values() if row.loads_adapters))
        return f"{engine_of(config.engine)} loads no adapters while it runs; set max_adapters to 0, or take {able}"
    return None


KV_VALUE_BYTES = 2
"""Of one number of a KV cache in 16 bits."""


def kv_token_bytes(config: Mapping[str, Any]) -> int | None:
    """Returns the bytes that one token takes at most in a 16-bit KV cache, by the model's config.json; None where that does not tell.

    A key and a value of every KV head in every layer: models with latent attention or sliding windows take less.
    """
    num_layers, num_heads = config.get("num_hidden_layers"), config.get("num_attention_heads")
    num_kv_heads = config.get("num_key_value_heads") or num_heads
    head_size, hidden_size = config.get("head_dim"), config.get("hidden_size")
    if head_size is None and isinstance(hidden_size, int) and isinstance(num_heads, int) and num_heads > 0:
        head_size = hidden_size // num_heads
    if not (isinstance(num_layers, int) and isinstance(num_kv_heads, int) and isinstance(head_size, int)):
        return None
    token_bytes = 2 * num_layers * num_kv_heads * head_size * KV_VALUE_BYTES
    return token_bytes if token_bytes > 0 else None
