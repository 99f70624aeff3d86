"""Command lines of the engines: typed settings in, words out. No free argument reaches a command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from quantry_core.engines import engine_of, kv_token_bytes
from quantry_core.errors import NotServable
from quantry_core.jobs import EngineConfig, EngineKind
from quantry_deploy.settings import DeploySettings

LLAMA_CPP_SCRIPT = "serve_llama_cpp.py"
"""Lies beside vLLM's launch script."""

LMDEPLOY_BLOCK_TOKENS = 64
"""Tokens of one block of LMDeploy's KV cache."""

OFFLINE = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}
"""Nothing is fetched and nothing is reported. vLLM's own launch script sets more."""

KEEP_ENVIRON = {"SPT_NOENV": "1"}
"""Process titles leave /proc/<pid>/environ alone: whose engine a process is, is read from there."""


@dataclass(frozen=True)
class Serving:
    """What one engine is to serve, and where."""

    engine: EngineConfig
    config: Mapping[str, Any]
    """The checkpoint's config.json."""
    model: str
    """Folder of the files, as the engine sees it."""
    served_name: str
    mark: str
    """Shown beside the model where the engine can: the probe looks for it."""
    host: str
    port: int
    stop_grace_s: float
    num_gpus: int
    """0: it runs on the CPU."""


def engine_arguments(serving: Serving) -> list[str]:
    """Returns what follows the program on the command line; raises NotServable where the KV cache cannot hold one sequence."""
    return ARGUMENTS[serving.engine.engine](serving)


def engine_command(settings: DeploySettings, serving: Serving) -> list[str]:
    """Returns the whole command line on this host; raises NotServable where the engine's environment is not set."""
    return [*program(settings, serving.engine.engine), *engine_arguments(serving)]


def program(settings: DeploySettings, kind: EngineKind) -> list[str]:
    """Returns the interpreter and the script or module that starts an engine; raises NotServable where the interpreter is not set."""
    python, variable = {
        EngineKind.VLLM: (settings.engine_python, "QUANTRY_ENGINE_PYTHON"),
        EngineKind.LLAMA_CPP: (settings.llama_cpp_python, "QUANTRY_LLAMA_CPP_PYTHON"),
        EngineKind.SGLANG: (settings.sglang_python, "QUANTRY_SGLANG_PYTHON"),
        EngineKind.LMDEPLOY: (settings.lmdeploy_python, "QUANTRY_LMDEPLOY_PYTHON"),
    }[kind]
    if python is None:
        raise NotServable(f"{engine_of(kind)} is not installed where engines are started: {variable} is not set")
    match kind:
        case EngineKind.VLLM:
            return [str(python), "-P", str(settings.engine_script)]
        case EngineKind.LLAMA_CPP:
            return [str(python), "-P", str(settings.llama_cpp_script or settings.engine_script.with_name(LLAMA_CPP_SCRIPT))]
        case EngineKind.SGLANG:
            return [str(python), "-P", "-m", "sglang.launch_server"]
        case EngineKind.LMDEPLOY:
            return [str(python), "-P", "-m", "lmdeploy", "serve", "api_server"]


def llama_cpp_slots(engine: EngineConfig, config: Mapping[str, Any]) -> tuple[int, int]:
    """Returns how many sequences the KV cache holds whole, at most ``max_num_seqs``, and the tokens of each.

    Raises NotServable if it does not hold one, or the config.json does not tell.
    """
    context_tokens = _context_tokens(engine, config)
    token_bytes = kv_token_bytes(config)
    if context_tokens is None or token_bytes is None:
        raise NotServable("its config.json does not say how long its context is and what a token takes in the KV cache")
    num_slots = engine.kv_cache_bytes // (token_bytes * context_tokens)
    if not num_slots:
        raise NotServable(
            f"one sequence of {context_tokens} tokens takes {token_bytes * context_tokens} bytes and kv_cache_bytes is "
            f"{engine.kv_cache_bytes}; raise that, or lower max_model_len_tokens"
        )
    return min(engine.max_num_seqs, num_slots), context_tokens


def engine_environment(kind: EngineKind) -> dict[str, str]:
    """Returns what an engine's environment has beside the host's: vLLM's script sets its own."""
    return KEEP_ENVIRON if kind is EngineKind.VLLM else {**OFFLINE, **KEEP_ENVIRON}


def _vllm(serving: Serving) -> list[str]:
    engine = serving.engine
    words = ["--model", serving.model, "--served-model-name", serving.served_name, serving.mark]
    words += ["--host", serving.host, "--port", str(serving.port)]
    words += ["--kv-cache-bytes", str(engine.kv_cache_bytes), "--max-num-seqs", str(engine.max_num_seqs)]
    words += ["--shutdown-timeout", str(int(serving.stop_grace_s))]
    if engine.max_model_len_tokens is not None:
        words += ["--max-model-len", str(engine.max_model_len_tokens)]
    if engine.max_adapters:
        words += ["--max-adapters", str(engine.max_adapters), "--max-adapter-rank", str(engine.max_adapter_rank)]
    if serving.num_gpus > 1:
        words += ["--num-gpus", str(serving.num_gpus)]
    return words


def _llama_cpp(serving: Serving) -> list[str]:
    num_slots, context_tokens = llama_cpp_slots(serving.engine, serving.config)
    words = ["--model", serving.model, "--served-model-name", serving.served_name, "--mark", serving.mark]
    words += ["--host", serving.host, "--port", str(serving.port)]
    words += ["--slots", str(num_slots), "--context-tokens", str(context_tokens)]
    return [*words, "--shutdown-timeout", str(int(serving.stop_grace_s))]


def _sglang(serving: Serving) -> list[str]:
    engine = serving.engine
    words = ["--model-path", serving.model, "--served-model-name", serving.served_name, "--weight-version", serving.mark]
    words += ["--host", serving.host, "--port", str(serving.port), "--enable-metrics"]
    words += ["--max-running-requests", str(engine.max_num_seqs), "--max-total-tokens", str(_kv_tokens(serving))]
    if engine.max_model_len_tokens is not None:
        words += ["--context-length", str(engine.max_model_len_tokens)]
    if serving.num_gpus > 1:
        words += ["--tensor-parallel-size", str(serving.num_gpus)]
    return words


def _lmdeploy(serving: Serving) -> list[str]:
    engine = serving.engine
    words = [serving.model, "--model-name", serving.served_name]
    words += ["--server-name", serving.host, "--server-port", str(serving.port), "--max-batch-size", str(engine.max_num_seqs)]
    num_blocks = max(1, _kv_tokens(serving) // LMDEPLOY_BLOCK_TOKENS)
    words += ["--cache-block-seq-len", str(LMDEPLOY_BLOCK_TOKENS), "--cache-max-entry-count", str(num_blocks)]
    if engine.max_model_len_tokens is not None:
        words += ["--session-len", str(engine.max_model_len_tokens)]
    if serving.num_gpus > 1:
        words += ["--tp", str(serving.num_gpus)]
    return words


def _kv_tokens(serving: Serving) -> int:
    """Returns the tokens that the KV cache holds; raises NotServable where the config.json does not tell or it holds no sequence."""
    token_bytes = kv_token_bytes(serving.config)
    if token_bytes is None:
        raise NotServable("its config.json does not say what a token takes in the KV cache")
    num_tokens = serving.engine.kv_cache_bytes // token_bytes
    context_tokens = _context_tokens(serving.engine, serving.config)
    if context_tokens is not None and num_tokens < context_tokens:
        raise NotServable(
            f"kv_cache_bytes {serving.engine.kv_cache_bytes} holds {num_tokens} tokens and one sequence may have {context_tokens}; "
            "raise that, or lower max_model_len_tokens"
        )
    return num_tokens


def _context_tokens(engine: EngineConfig, config: Mapping[str, Any]) -> int | None:
    longest = config.get("max_position_embeddings")
    return engine.max_model_len_tokens or (longest if isinstance(longest, int) and longest > 0 else None)


ARGUMENTS: dict[EngineKind, Callable[[Serving], list[str]]] = {
    EngineKind.VLLM: _vllm,
    EngineKind.LLAMA_CPP: _llama_cpp,
    EngineKind.SGLANG: _sglang,
    EngineKind.LMDEPLOY: _lmdeploy,
}
