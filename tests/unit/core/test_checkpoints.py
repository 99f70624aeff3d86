"""The import rules: what a good checkpoint says of itself, and the sentence each bad one gets."""

from __future__ import annotations

import json

import pytest

from factories.checkpoints import CONFIG, MemoryCheckpoint, master_contents, safetensors_bytes
from quantry_core.checkpoints import INDEX_PATH, MAX_JSON_BYTES, check_master, inspect_checkpoint
from quantry_core.errors import SourceRefused


def test_a_good_master_is_described() -> None:
    info = inspect_checkpoint(MemoryCheckpoint(master_contents()))
    assert check_master(info) == "float16"
    assert info.num_parameters == 32 * 128 + 4
    assert info.tensors["a.weight"].size_bytes == 32 * 128 * 2
    assert info.weights_bytes == info.files["model.safetensors"]


@pytest.mark.parametrize(
    ("contents", "words"),
    [
        (master_contents(config__json=None), "there is no config.json"),
        (master_contents(config__json=b"[1]"), "not a JSON object"),
        (master_contents(config__json=b"{"), "config.json is not JSON"),
        (master_contents(config__json=b'{"a": %s}' % (b"9" * 5000)), "config.json is not JSON"),
        (master_contents(config__json=b"[" * 100_000), "config.json is not JSON"),
        (master_contents(config__json=b" " * (MAX_JSON_BYTES + 1)), "more than the 1048576 allowed"),
        (master_contents(generation_config__json=b" " * (MAX_JSON_BYTES + 1)), "more than the 1048576 allowed"),
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


def sharded_contents(weight_map: object) -> dict[str, bytes]:
    """Returns a master of two shards, x in the first and y in the second, with this index; with none where None."""
    contents = {
        **master_contents(model__safetensors=None),
        "model-1.safetensors": safetensors_bytes({"x": ("F16", (4, 4))}),
        "model-2.safetensors": safetensors_bytes({"y": ("F16", (4, 4))}),
    }
    return contents if weight_map is None else {**contents, INDEX_PATH: json.dumps({"weight_map": weight_map}).encode()}


def test_shards_with_an_exact_index_are_taken() -> None:
    info = inspect_checkpoint(MemoryCheckpoint(sharded_contents({"y": "model-2.safetensors", "x": "model-1.safetensors"})))
    assert info.tensor_files == {"x": "model-1.safetensors", "y": "model-2.safetensors"}


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"x": "model-2.safetensors", "y": "model-2.safetensors"}, "'x' is in 'model-2.safetensors', but it is not there"),
        ({"x": "model-1.safetensors", "y": "model-2.safetensors", "z": "model-2.safetensors"}, "'z' is in 'model-2.safetensors', but"),
        ({"x": "model-1.safetensors"}, "leaves out tensor 'y', which is in model-2.safetensors"),
        ({}, "leaves out tensor 'x'"),
        ({"x": ["model-1.safetensors"], "y": "model-2.safetensors"}, "names no file for tensor 'x'"),
        (["x", "y"], "has no weight_map"),
        (None, "2 .* files but no model.safetensors.index.json"),
    ],
)
def test_an_index_that_is_not_what_the_shards_hold_is_refused(weight_map: object, words: str) -> None:
    with pytest.raises(SourceRefused, match=words):
        inspect_checkpoint(MemoryCheckpoint(sharded_contents(weight_map)))


def test_the_index_of_a_single_file_is_checked_too() -> None:
    index = json.dumps({"weight_map": {"a.weight": "model.safetensors"}}).encode()
    with pytest.raises(SourceRefused, match=r"leaves out tensor 'norm\.weight'"):
        inspect_checkpoint(MemoryCheckpoint({**master_contents(), INDEX_PATH: index}))


def test_a_tokenizer_with_many_added_tokens_is_taken() -> None:
    tokens = json.dumps({"added_tokens_decoder": {str(number): "x" * 200 for number in range(7000)}}).encode()
    assert len(tokens) > MAX_JSON_BYTES
    inspect_checkpoint(MemoryCheckpoint(master_contents(tokenizer_config__json=tokens)))


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
