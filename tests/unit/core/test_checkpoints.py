"""The import rules: what a good checkpoint says of itself, and the sentence each bad one gets."""

from __future__ import annotations

import json

import pytest

from factories.checkpoints import CONFIG, MemoryCheckpoint, master_contents, safetensors_bytes
from quantry_core.checkpoints import check_master, inspect_checkpoint
from quantry_core.errors import SourceRefused


def test_a_good_master_is_described() -> None:
    info = inspect_checkpoint(MemoryCheckpoint(master_contents()))
    assert check_master(info) == "float16"
    assert info.num_parameters == 20
    assert info.tensors["a.weight"].size_bytes == 32
    assert info.weights_bytes == info.files["model.safetensors"]


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (master_contents(config__json=None), "there is no config.json"),
        (master_contents(config__json=b"[1]"), "not a JSON object"),
        (master_contents(config__json=b"{"), "config.json is not JSON"),
        (master_contents(config__json=b"{}"), "names no model_type"),
        (master_contents(pytorch_model__bin=b"\x80\x04"), "can run code when loaded"),
        (master_contents(weights__pkl=b"\x80\x04"), "can run code when loaded"),
        (master_contents(modeling__py=b"import os"), "code inside a checkpoint"),
        (master_contents(run__sh=b"#!/bin/sh"), "not part of a checkpoint"),
        (master_contents(config__json=json.dumps({**CONFIG, "auto_map": {}}).encode()), "auto_map"),
        (master_contents(tokenizer_config__json=json.dumps({"auto_map": {}}).encode()), "auto_map"),
        (master_contents(model__safetensors=None), "there are no weights"),
        (master_contents(model__safetensors=b"\x01"), "at least 8"),
        (master_contents(model__safetensors=(2**62).to_bytes(8, "little")), "more than the"),
        (master_contents(model__safetensors=safetensors_bytes({"a": ("F16", (4, 4))})[:-1]), "31"),
    ],
)
def test_a_bad_checkpoint_is_refused_with_its_reason(contents: dict[str, bytes], words: str) -> None:
    with pytest.raises(SourceRefused, match=words):
        inspect_checkpoint(MemoryCheckpoint(contents))


@pytest.mark.parametrize(
    "path", ["../config.json", "a/b/c.json", "/etc/x.json", ".hidden.json", "a\x00.json", "a\\b.json", "x" * 300 + ".json"]
)
def test_an_unsafe_path_is_refused(path: str) -> None:
    with pytest.raises(SourceRefused):
        inspect_checkpoint(MemoryCheckpoint({**master_contents(), path: b"{}"}))


def test_a_tensor_in_two_shards_is_refused() -> None:
    shard = safetensors_bytes({"a.weight": ("F16", (4, 4))})
    contents = {**master_contents(model__safetensors=shard), "more.safetensors": shard}
    with pytest.raises(SourceRefused, match="and again in"):
        inspect_checkpoint(MemoryCheckpoint(contents))


def test_an_index_that_lies_is_refused() -> None:
    index = json.dumps({"weight_map": {"a.weight": "model-00002.safetensors"}}).encode()
    with pytest.raises(SourceRefused, match="but it is not there"):
        inspect_checkpoint(MemoryCheckpoint({**master_contents(), "model.safetensors.index.json": index}))


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (master_contents(model__safetensors=safetensors_bytes({"a": ("F32", (4, 4))})), "16-bit"),
        (master_contents(model__safetensors=safetensors_bytes({"a": ("F16", (4, 4)), "b": ("BF16", (4, 4))})), "16-bit throughout"),
        (master_contents(model__safetensors=safetensors_bytes({"a": ("I8", (4, 4)), "b": ("I8", (4,))})), "16-bit"),
        (master_contents(model__safetensors=safetensors_bytes({"a": ("F16", (4,))})), "no weight matrix"),
        (master_contents(config__json=json.dumps({**CONFIG, "quantization_config": {}}).encode()), "quantized already"),
        (master_contents(tokenizer__json=None), "no tokenizer"),
    ],
)
def test_what_is_not_a_master_is_refused(contents: dict[str, bytes], words: str) -> None:
    with pytest.raises(SourceRefused, match=words):
        check_master(inspect_checkpoint(MemoryCheckpoint(contents)))
