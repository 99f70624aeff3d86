"""What is refused before an engine is started."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from factories.adapter_files import write_adapter
from factories.client import version
from quantry_core.errors import NotServable, SourceRefused
from quantry_core.jobs import EngineConfig
from quantry_core.methods import DeviceKind, Format
from quantry_core.training import AdapterKind
from quantry_core.versions import VersionKind, VersionState
from quantry_deploy.servability import check_adapter, check_config, check_version

MASTER = version({"config.json": b"{}"}).model_copy(
    update={"kind": VersionKind.MASTER, "format": Format.SAFETENSORS, "state": VersionState.READY}
)
QUANTIZED = MASTER.model_copy(update={"kind": VersionKind.QUANTIZED, "format": Format.COMPRESSED_TENSORS, "scheme": "W4A16"})


def compressed(num_bits: int, kind: str = "int") -> dict[str, Any]:
    groups = {"group_0": {"weights": {"num_bits": num_bits, "type": kind}, "input_activations": None}}
    return {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": groups}}


def test_masters_and_quantized_versions_are_served() -> None:
    check_version(MASTER)
    check_version(QUANTIZED)
    check_config(MASTER, {}, EngineConfig())
    check_config(QUANTIZED, compressed(4), EngineConfig())
    check_config(QUANTIZED, compressed(8, "float"), EngineConfig())


@pytest.mark.parametrize("state", [VersionState.QUARANTINED, VersionState.ARCHIVED])
def test_only_a_ready_version_is_served(state: VersionState) -> None:
    with pytest.raises(NotServable, match="only a ready version"):
        check_version(MASTER.model_copy(update={"state": state}))


def test_an_adapter_alone_is_not_served() -> None:
    with pytest.raises(NotServable, match="no whole model"):
        check_version(MASTER.model_copy(update={"kind": VersionKind.ADAPTER}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scheme": "W2A16"}, "vllm 0.32 on cpu cannot load W2A16 in format compressed-tensors; .*W4A16"),
        ({"format": Format.BITSANDBYTES, "scheme": "NF4"}, "transformers on cpu"),
        ({"format": Format.GGUF, "scheme": "Q4_K_M"}, "llama.cpp on cpu"),
        ({"recipe": {"overrides": [{"modules": ["*.o_proj"], "scheme": "W8A16"}]}}, "cannot load W8A16"),
    ],
)
def test_what_the_engine_has_no_kernel_for_is_refused_with_what_it_has(change: dict[str, Any], words: str) -> None:
    with pytest.raises(NotServable, match=words):
        check_version(QUANTIZED.model_copy(update=change), DeviceKind.CPU)


def test_where_the_device_is_not_known_what_any_loads_is_let_pass() -> None:
    check_version(QUANTIZED.model_copy(update={"scheme": "W2A16"}))
    with pytest.raises(NotServable, match=r"vllm 0\.32 cannot load NF4"):
        check_version(QUANTIZED.model_copy(update={"format": Format.BITSANDBYTES, "scheme": "NF4"}))


def test_a_record_that_contradicts_its_files_is_refused() -> None:
    with pytest.raises(NotServable, match="recorded as 16-bit"):
        check_config(MASTER, compressed(4), EngineConfig())
    with pytest.raises(NotServable, match="says nothing of it"):
        check_config(QUANTIZED, {}, EngineConfig())


def test_a_context_longer_than_the_models_is_refused() -> None:
    config = {"max_position_embeddings": 1024}
    check_config(MASTER, config, EngineConfig(max_model_len_tokens=1024))
    with pytest.raises(NotServable, match="knows 1024 positions"):
        check_config(MASTER, config, EngineConfig(max_model_len_tokens=1025))


def test_an_adapters_files_say_whether_the_engine_loads_them(tmp_path: Path) -> None:
    modules = {"model.layers.0.mlp.up_proj": (8, 8)}
    adapter = MASTER.model_copy(update={"kind": VersionKind.ADAPTER})
    check_adapter(adapter, write_adapter(tmp_path / "lora", modules, rank=8), EngineConfig(max_adapters=1, max_adapter_rank=8))
    check_adapter(adapter, write_adapter(tmp_path / "rslora", modules, kind=AdapterKind.RSLORA), EngineConfig())
    with pytest.raises(NotServable, match="of rank 16 and the release takes ranks up to 8; roll out one with a higher max_adapter_rank"):
        check_adapter(adapter, write_adapter(tmp_path / "big", modules, rank=16), EngineConfig(max_adapter_rank=8))
    with pytest.raises(NotServable, match="loads no dora adapters; merge it"):
        check_adapter(adapter, write_adapter(tmp_path / "dora", modules, kind=AdapterKind.DORA), EngineConfig())
    (tmp_path / "lora" / "adapter_model.safetensors").unlink()
    with pytest.raises(SourceRefused, match=r"no adapter_model\.safetensors"):
        check_adapter(adapter, tmp_path / "lora", EngineConfig())
