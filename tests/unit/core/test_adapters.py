"""What an adapter's folder may be: a good one is described, each bad one gets its sentence."""

from __future__ import annotations

from typing import Any

import pytest

from factories.adapters import TENSORS, adapter_contents
from factories.checkpoints import MemoryCheckpoint, safetensors_bytes
from quantry_core.adapters import CONFIG_PATH, SIDE_FILES, WEIGHTS_PATH, inspect_adapter
from quantry_core.errors import SourceRefused
from quantry_core.training import AdapterKind

A, B, MAGNITUDE = "lora_A.weight", "lora_B.weight", "lora_magnitude_vector"
Q_PROJ = "base_model.model.model.layers.0.self_attn.q_proj"


def with_tensors(changes: dict[str, tuple[str, tuple[int, ...]] | None]) -> dict[str, bytes]:
    tensors = {name: tensor for name, tensor in {**TENSORS, **changes}.items() if tensor is not None}
    return adapter_contents(weights=safetensors_bytes(tensors))


def test_a_good_adapter_is_described() -> None:
    info = inspect_adapter(MemoryCheckpoint(adapter_contents()))
    assert (info.kind, info.rank, info.alpha, info.base_ref) == (AdapterKind.LORA, 4, 8.0, "bard-6m@1")
    assert info.modules == ["model.layers.0.mlp.down_proj", "model.layers.0.self_attn.q_proj"]
    assert info.target_modules == ["down_proj", "q_proj"]
    assert info.dtype == "float32"
    assert info.num_parameters == 4 * 16 + 16 * 4 + 4 * 32 + 16 * 4
    assert info.weights_bytes == len(adapter_contents()[WEIGHTS_PATH])


def test_the_kinds_are_told_apart() -> None:
    assert inspect_adapter(MemoryCheckpoint(adapter_contents(use_rslora=True))).kind is AdapterKind.RSLORA
    magnitudes = {f"{name.rpartition('.lora_A')[0]}.{MAGNITUDE}": ("F32", (16,)) for name in TENSORS if name.endswith(A)}
    weights = safetensors_bytes({**TENSORS, **magnitudes})
    assert inspect_adapter(MemoryCheckpoint(adapter_contents(weights=weights, use_dora=True))).kind is AdapterKind.DORA


def test_tensors_of_two_dtypes_have_no_dtype_together() -> None:
    assert inspect_adapter(MemoryCheckpoint(with_tensors({f"{Q_PROJ}.{A}": ("BF16", (4, 16))}))).dtype is None


def test_the_side_files_of_a_tokenizer_may_lie_there() -> None:
    contents = adapter_contents() | dict.fromkeys(SIDE_FILES, b"{}")
    assert inspect_adapter(MemoryCheckpoint(contents)).rank == 4


@pytest.mark.parametrize(
    ("path", "content", "words"),
    [
        ("adapter_model.bin", b"\x80\x04", "can run code when loaded"),
        ("training_args.bin", b"\x80\x04", "can run code when loaded"),
        ("modeling.py", b"import os", "code inside a checkpoint"),
        ("model.safetensors", b"", "not part of an adapter"),
        ("config.json", b"{}", "not part of an adapter"),
        ("../adapter_config.json", b"{}", "not a safe file path"),
        (CONFIG_PATH, b"[]", "not a JSON object"),
        (CONFIG_PATH, b"{" * 9, "is not JSON"),
        (WEIGHTS_PATH, b"\x01", "at least 8"),
        (WEIGHTS_PATH, safetensors_bytes({}), "no tensor in it"),
    ],
)
def test_a_file_that_does_not_belong_is_refused(path: str, content: bytes, words: str) -> None:
    with pytest.raises(SourceRefused, match=words):
        inspect_adapter(MemoryCheckpoint({**adapter_contents(), path: content}))


@pytest.mark.parametrize("path", [CONFIG_PATH, WEIGHTS_PATH])
def test_neither_of_the_two_files_may_be_missing(path: str) -> None:
    contents = adapter_contents()
    del contents[path]
    with pytest.raises(SourceRefused, match=f"there is no {path}"):
        inspect_adapter(MemoryCheckpoint(contents))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; only LORA"),
        ({"peft_type": None}, "peft_type is None"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is set"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern is set"),
        ({"lora_bias": True}, "lora_bias is set"),
        ({"auto_mapping": {"parent_library": "os"}}, "auto_mapping is set"),
        ({"use_dora": True, "use_rslora": True}, "both set"),
        ({"use_dora": True}, f"lacks {MAGNITUDE}"),
        ({"r": 0}, "the rank, is 0"),
        ({"r": True}, "the rank, is True"),
        ({"r": 8}, r"not \[8, in\] and \[out, 8\]"),
        ({"lora_alpha": 0}, "lora_alpha is 0"),
        ({"lora_alpha": "8"}, "lora_alpha is '8'"),
        ({"base_model_name_or_path": None}, "base_model_name_or_path is None"),
        ({"base_model_name_or_path": "/models/bard"}, "not a version"),
        ({"base_model_name_or_path": "bard-6m"}, "not a version"),
        ({"base_model_name_or_path": "bard-6m@latest"}, "not a version"),
        ({"base_model_name_or_path": {"a": 1}}, "a value of type dict"),
    ],
)
def test_a_config_that_says_something_else_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SourceRefused, match=words):
        inspect_adapter(MemoryCheckpoint(adapter_contents(**changes)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({f"{Q_PROJ}.{B}": None}, f"'model.layers.0.self_attn.q_proj' lacks {B}"),
        ({f"{Q_PROJ}.{MAGNITUDE}": ("F32", (16,))}, f"has a {MAGNITUDE}"),
        ({f"{Q_PROJ}.{A}": ("F32", (16, 4))}, r"A of shape \[16, 4\]"),
        ({f"{Q_PROJ}.{B}": ("F32", (16, 8))}, r"B of \[16, 8\]"),
        ({f"{Q_PROJ}.{A}": ("F32", (4, 4, 4))}, r"A of shape \[4, 4, 4\]"),
        ({f"{Q_PROJ}.{B}": ("F32", (0, 4))}, r"B of \[0, 4\]"),
        ({f"{Q_PROJ}.{A}": ("I8", (4, 16))}, "is I8; an adapter is F32, F16, BF16"),
        ({"model.layers.0.self_attn.q_proj.weight": ("F32", (16, 16))}, "not a part of a LoRA"),
        ({f"{Q_PROJ}.lora_embedding_A": ("F32", (4, 16))}, "not a part of a LoRA"),
        ({f"{Q_PROJ}.lora_B.bias": ("F32", (16,))}, "not a part of a LoRA"),
        ({f"{Q_PROJ}.lora_A.default.weight": ("F32", (4, 16))}, "not a part of a LoRA"),
    ],
)
def test_tensors_that_are_no_low_rank_pairs_are_refused(changes: dict[str, tuple[str, tuple[int, ...]] | None], words: str) -> None:
    with pytest.raises(SourceRefused, match=words):
        inspect_adapter(MemoryCheckpoint(with_tensors(changes)))


def test_a_dora_magnitude_has_one_number_for_each_output() -> None:
    magnitudes = {f"{name.rpartition('.lora_A')[0]}.{MAGNITUDE}": ("F32", (4,)) for name in TENSORS if name.endswith(A)}
    weights = safetensors_bytes({**TENSORS, **magnitudes})
    with pytest.raises(SourceRefused, match=r"a magnitude of shape \[4\], and 16 outputs"):
        inspect_adapter(MemoryCheckpoint(adapter_contents(weights=weights, use_dora=True)))
