"""What is refused before an engine is started."""

from __future__ import annotations

from typing import Any

import pytest

from factories.client import version
from quantry_core.errors import NotServable
from quantry_core.jobs import EngineConfig
from quantry_core.methods import Format
from quantry_core.versions import VersionKind, VersionState
from quantry_deploy.servability import SERVABLE, check_config, check_version

MASTER = version({"config.json": b"{}"}).model_copy(
    update={"kind": VersionKind.MASTER, "format": Format.SAFETENSORS, "state": VersionState.READY}
)
QUANTIZED = MASTER.model_copy(update={"kind": VersionKind.QUANTIZED, "format": Format.COMPRESSED_TENSORS})


def compressed(num_bits: int, kind: str = "int") -> dict[str, Any]:
    groups = {"group_0": {"weights": {"num_bits": num_bits, "type": kind}, "input_activations": None}}
    return {"quantization_config": {"quant_method": "compressed-tensors", "config_groups": groups}}


def test_every_format_has_its_kinds() -> None:
    assert set(SERVABLE) == set(Format)


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
    with pytest.raises(NotServable, match="cannot load"):
        check_version(MASTER.model_copy(update={"kind": VersionKind.ADAPTER}))


@pytest.mark.parametrize("num_bits", [2, 3])
def test_bits_without_a_kernel_are_refused(num_bits: int) -> None:
    with pytest.raises(NotServable, match=f"{num_bits}-bit weights"):
        check_config(QUANTIZED, compressed(num_bits), EngineConfig())


def test_a_record_that_contradicts_its_files_is_refused() -> None:
    with pytest.raises(NotServable, match="recorded as 16-bit"):
        check_config(MASTER, compressed(4), EngineConfig())
    with pytest.raises(NotServable, match="does not say so"):
        check_config(QUANTIZED, {}, EngineConfig())


def test_a_context_longer_than_the_models_is_refused() -> None:
    config = {"max_position_embeddings": 1024}
    check_config(MASTER, config, EngineConfig(max_model_len_tokens=1024))
    with pytest.raises(NotServable, match="knows 1024 positions"):
        check_config(MASTER, config, EngineConfig(max_model_len_tokens=1025))
