"""What can be trained on, and what is said of the rest."""

from __future__ import annotations

from typing import Any

import pytest

from quantry_core.jobs import FinetuneSpec
from quantry_core.methods import SCHEMES, Activations, Format, Scheme
from quantry_core.training.bases import not_trainable
from quantry_core.versions import VersionKind


def spec(**changes: Any) -> FinetuneSpec:
    return FinetuneSpec.model_validate({"model": "bard", "training_file": "lessons", **changes})


@pytest.mark.parametrize("kind", [VersionKind.MASTER, VersionKind.MERGED])
@pytest.mark.parametrize("changes", [{}, {"adapter": None}, {"base_precision": "nf4"}, {"base_precision": "int8"}])
def test_16_bit_weights_are_trained_in_every_way(kind: VersionKind, changes: dict[str, Any]) -> None:
    assert not_trainable(kind, Format.SAFETENSORS, None, spec(**changes)) is None


def test_an_adapter_is_no_base() -> None:
    assert "merge it first" in str(not_trainable(VersionKind.ADAPTER, Format.PEFT, None, spec()))


@pytest.mark.parametrize(
    ("form", "scheme", "reason"),
    [
        (Format.COMPRESSED_TENSORS, Scheme.W2A16, None),
        (Format.COMPRESSED_TENSORS, Scheme.W3A16, None),
        (Format.COMPRESSED_TENSORS, Scheme.W4A16, None),
        (Format.COMPRESSED_TENSORS, Scheme.W8A16, None),
        (Format.GPTQ, Scheme.W4A16, None),
        (Format.BITSANDBYTES, Scheme.NF4, None),
        (Format.BITSANDBYTES, Scheme.INT8, None),
        (Format.COMPRESSED_TENSORS, Scheme.W8A8, "rounds activations"),
        (Format.COMPRESSED_TENSORS, Scheme.W4A8, "rounds activations"),
        (Format.COMPRESSED_TENSORS, Scheme.FP8, "rounds activations"),
        (Format.COMPRESSED_TENSORS, Scheme.FP8_DYNAMIC, "rounds activations"),
        (Format.COMPRESSED_TENSORS, Scheme.NVFP4, "rounds activations"),
        (Format.COMPRESSED_TENSORS, Scheme.MXFP4, "rounds activations"),
        (Format.COMPRESSED_TENSORS, Scheme.NVFP4A16, "cannot be dequantized for training"),
        (Format.COMPRESSED_TENSORS, Scheme.MXFP4A16, "cannot be dequantized for training"),
        (Format.COMPRESSED_TENSORS, Scheme.KV_FP8, "KV cache"),
        (Format.GGUF, Scheme.Q4_K_M, "format gguf"),
        (Format.GGUF, Scheme.Q5_K_M, "format gguf"),
        (Format.GGUF, Scheme.Q8_0, "format gguf"),
        (Format.EETQ, Scheme.W8A16, "format eetq"),
    ],
)
def test_each_scheme_is_trained_on_or_the_reason_is_told(form: Format, scheme: Scheme, reason: str | None) -> None:
    told = not_trainable(VersionKind.QUANTIZED, form, scheme, spec())
    if reason is None:
        assert told is None
        return
    assert reason in str(told)
    assert "train on the 16-bit master" in str(told)


def test_nothing_that_rounds_activations_is_trained_on() -> None:
    rounding = [scheme for scheme, info in SCHEMES.items() if info.activations is not Activations.SIXTEEN_BIT]
    assert rounding
    for scheme in rounding:
        for form in Format:
            assert not_trainable(VersionKind.QUANTIZED, form, scheme, spec()) is not None


@pytest.mark.parametrize(("changes", "words"), [({"adapter": None}, "give an adapter"), ({"base_precision": "nf4"}, "quantized already")])
def test_what_only_16_bit_weights_can_do(changes: dict[str, Any], words: str) -> None:
    assert words in str(not_trainable(VersionKind.QUANTIZED, Format.BITSANDBYTES, Scheme.NF4, spec(**changes)))


def test_the_modules_of_a_mixed_version_count_one_by_one() -> None:
    def of(scheme: str) -> dict[str, Any]:
        return {"overrides": [{"modules": ["*.o_proj"], "scheme": scheme}]}

    form = Format.COMPRESSED_TENSORS
    assert not_trainable(VersionKind.QUANTIZED, form, Scheme.W4A16, spec(), of("W8A16")) is None
    assert "W8A8" in str(not_trainable(VersionKind.QUANTIZED, form, Scheme.W4A16, spec(), of("W8A8")))
    assert "KV cache" in str(not_trainable(VersionKind.QUANTIZED, form, Scheme.W4A16, spec(), {"kv_cache": "fp8"}))
