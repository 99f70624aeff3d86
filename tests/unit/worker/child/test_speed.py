"""The arithmetic of speed, and what is refused before an engine is started."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from quantry_core.errors import InvalidInput
from quantry_core.estimates.facts import CheckpointFacts
from quantry_core.jobs import InputRole, SpeedSpec
from quantry_core.methods import DeviceKind, Format, Scheme
from quantry_core.versions import VersionKind
from quantry_worker.child.engine import MIN_KV_CACHE_BYTES, EngineFacts, kv_cache_bytes, unseen_device
from quantry_worker.child.evaluation.servability import check_speed
from quantry_worker.child.evaluation.speed import Timing, level_figures
from quantry_worker.protocol import ChildInput


def test_figures_of_requests_with_known_times() -> None:
    # Two at once, then a third: sent at 0, 0 and 1 s; 5 tokens each.
    timings = [Timing(0.0, 0.1, 0.5, 5), Timing(0.0, 0.3, 0.7, 5), Timing(1.0, 1.2, 2.0, 5)]
    figures = level_figures(timings)
    assert figures["num_output_tokens"] == 15
    assert figures["wall_s"] == 2.0
    assert figures["output_tokens_per_s"] == 7.5
    assert figures["requests_per_s"] == 1.5
    assert figures["ttft_ms_p50"] == pytest.approx(200)
    # 100, 200 and 300 ms: the 95th percentile lies nine tenths of the way from the second to the third.
    assert figures["ttft_ms_p95"] == pytest.approx(290)
    assert figures["tpot_ms_p50"] == pytest.approx(100)
    assert figures["tpot_ms_p95"] == pytest.approx(190)
    assert figures["latency_ms_p50"] == pytest.approx(700)
    assert figures["latency_ms_p95"] == pytest.approx(970)


ENGINE = EngineFacts(Path("python"), Path("serve.py"), "0.32.0", DeviceKind.CPU)
LLAMA = {"max_position_embeddings": 1024}


def subject(form: Format, scheme: Scheme | None = None) -> ChildInput:
    recipe = None if scheme is None else {"scheme": scheme}
    kind = VersionKind.MASTER if scheme is None else VersionKind.QUANTIZED
    return ChildInput(role=InputRole.SUBJECT, id="ver_1", ref="bard@2", kind=kind, format=form, recipe=recipe, path=Path("/nowhere"))


@pytest.mark.parametrize(
    ("given", "engine", "spec", "words"),
    [
        (subject(Format.SAFETENSORS), None, SpeedSpec(), "no engine environment"),
        (subject(Format.GGUF, Scheme.Q8_0), ENGINE, SpeedSpec(), "bard@2 cannot be measured: .* cannot load Q8_0 in format gguf"),
        (subject(Format.BITSANDBYTES, Scheme.NF4), ENGINE, SpeedSpec(), "cannot load NF4 in format bitsandbytes"),
        (subject(Format.COMPRESSED_TENSORS, Scheme.W3A16), ENGINE, SpeedSpec(), "cannot load W3A16"),
        (subject(Format.SAFETENSORS), ENGINE, SpeedSpec(prompt_tokens=1000), "1032 together, but .* 1024"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_its_reason(
    given: ChildInput, engine: EngineFacts | None, spec: SpeedSpec, words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        check_speed(spec, given, LLAMA, engine)


@pytest.mark.parametrize("given", [subject(Format.SAFETENSORS), subject(Format.COMPRESSED_TENSORS, Scheme.W8A8)])
def test_what_can_be_measured_is_let_through(given: ChildInput) -> None:
    assert check_speed(SpeedSpec(), given, LLAMA, ENGINE) is ENGINE


def test_an_engine_whose_device_the_job_does_not_see_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    on_gpu = replace(ENGINE, device=DeviceKind.CUDA)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert unseen_device(ENGINE) is None
    with pytest.raises(InvalidInput, match="was built for CUDA, and a job of this queue sees no GPU; leave speed out"):
        check_speed(SpeedSpec(), subject(Format.SAFETENSORS), LLAMA, on_gpu)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1")
    assert check_speed(SpeedSpec(), subject(Format.SAFETENSORS), LLAMA, on_gpu) is on_gpu


@pytest.mark.parametrize(
    ("config", "bytes_per_token"),
    [
        # Keys and values of 32 layers, 8 heads, 128 wide, two bytes each.
        ({"num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096}, 128 * 1024),
        ({"num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "hidden_size": 1024}, 112 * 1024),
        # GPT-2 XL and MPT-7B, whose names are others, and whose heads have keys of their own.
        ({"n_layer": 48, "n_head": 25, "n_embd": 1600}, 2 * 2 * 48 * 1600),
        ({"n_layers": 32, "n_heads": 32, "d_model": 4096}, 2 * 2 * 32 * 4096),
    ],
)
def test_the_kv_cache_holds_every_token_of_the_largest_level(config: dict[str, int], bytes_per_token: int) -> None:
    facts = CheckpointFacts(tensors={}, weights_bytes=0, other_bytes=0, config=config)
    assert kv_cache_bytes(facts, 8000) == 8000 * bytes_per_token * 5 // 4
    assert kv_cache_bytes(facts, 10) == MIN_KV_CACHE_BYTES
