"""hqq for real, on the example model: what it writes, that transformers reads it, and that it beats rounding to nearest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from factories.backends import CORPORA, MASTER, SCRIPTS, run_backend, run_python, shortened_master

MODULE = "model.layers.0.self_attn.k_proj"
PERPLEXITY = SCRIPTS / "perplexity_by_transformers.py"


def dequantized(tensors: dict[str, Any], module: str, bits: int) -> Any:
    """Returns the weight of a module by the packing's definition: element i at bit i * bits of its row, zero points down the columns."""
    rows, columns = tensors[f"{module}.weight_shape"]
    levels = unpacked(tensors[f"{module}.weight_packed"], bits, columns)
    zeros = unpacked(np.ascontiguousarray(tensors[f"{module}.weight_zero_point"].T), bits, rows).T
    scales = tensors[f"{module}.weight_scale"].astype(np.float64)
    group = columns // scales.shape[1]
    return (levels - zeros.repeat(group, axis=1)) * scales.repeat(group, axis=1)


def unpacked(words: Any, bits: int, count: int) -> Any:
    rows = [int.from_bytes(row.astype("<i4").tobytes(), "little") for row in words]
    return np.array([[row >> (index * bits) & ((1 << bits) - 1) for index in range(count)] for row in rows], dtype=np.float64)


def rounded(weight: Any, bits: int, group: int) -> Any:
    """Returns a weight rounded to nearest with zero points, scales in float16: the plain range of each group, zero within."""
    groups = weight.astype(np.float64).reshape(-1, group)
    low, high = np.minimum(groups.min(1, keepdims=True), 0), np.maximum(groups.max(1, keepdims=True), 0)
    scale = ((high - low) / (2**bits - 1)).astype(np.float16).astype(np.float64)
    zero = np.rint(-low / scale)
    return ((np.clip(np.rint(groups / scale + zero), 0, 2**bits - 1) - zero) * scale).reshape(weight.shape)


@pytest.mark.long
@pytest.mark.parametrize(("scheme", "bits", "group"), [("W4A16", 4, 64), ("W3A16", 3, 32)])
def test_what_is_written_is_nearer_to_the_master_than_rounding_is(tmp_path: Path, scheme: str, bits: int, group: int) -> None:
    master = shortened_master(tmp_path / "master", 1)
    ran = run_backend(tmp_path / "run", {"method": "hqq", "scheme": scheme, "group_size": group}, master=master)
    assert ran.refused is None
    tensors, original = load_file(ran.output_dir / "model.safetensors"), load_file(master / "model.safetensors")
    weight = original[f"{MODULE}.weight"].astype(np.float64)
    error = np.linalg.norm(dequantized(tensors, MODULE, bits) - weight)
    nearest = np.linalg.norm(rounded(weight, bits, group) - weight)
    assert 0.3 * nearest < error < nearest
    kept = [name for name in original if name in tensors]
    assert "model.embed_tokens.weight" in kept and all((tensors[name] == original[name]).all() for name in kept)
    assert f"{MODULE}.weight" not in tensors
    assert ran.weights_bytes == ran.estimated_bytes


@pytest.mark.long
def test_shards_and_index_are_those_of_the_master(tmp_path: Path) -> None:
    master = shortened_master(tmp_path / "master", 1)
    tensors = load_file(master / "model.safetensors")
    (master / "model.safetensors").unlink()
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    halves = [{name: tensor for name, tensor in tensors.items() if ("mlp" in name) == is_mlp} for is_mlp in (False, True)]
    for file, half in zip(files, halves, strict=True):
        save_file(half, master / file)
    weight_map = {name: file for file, half in zip(files, halves, strict=True) for name in half}
    (master / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    overrides = [{"modules": ["*.down_proj"], "scheme": "W8A16", "group_size": 32}]
    ran = run_backend(tmp_path / "run", {"method": "hqq", "group_size": 64, "overrides": overrides}, master=master)
    assert ran.refused is None
    index = json.loads((ran.output_dir / "model.safetensors.index.json").read_text())
    written = {file: load_file(ran.output_dir / file) for file in files}
    assert index["weight_map"] == {name: file for file, held in written.items() for name in held}
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for held in written.values() for tensor in held.values())
    groups = ran.config["quantization_config"]["config_groups"].values()
    assert sorted(group["weights"]["num_bits"] for group in groups) == [4, 8]
    assert written[files[1]]["model.layers.0.mlp.down_proj.weight_packed"].shape == (256, 768 * 8 // 32)


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["W4A16", "W3A16", "W2A16"])
def test_perplexity_is_no_worse_than_rounding(tmp_path: Path, scheme: str) -> None:
    figures = []
    for method, options in {"hqq": {}, "rtn": {"symmetric": False}}.items():
        ran = run_backend(tmp_path / method, {"method": method, "scheme": scheme, "group_size": 64, "options": options})
        texts = [CORPORA / f"{text}.test.txt" for text in ("kjv", "shakespeare", "speeches")]
        figures.append(np.log([run_python(PERPLEXITY, ran.output_dir, MASTER, text, 256) for text in texts]).mean())
    # In the mean over the texts, as log-loss in nats; at 4 bits both are within noise of each other.
    assert figures[0] < figures[1] + (0.005 if scheme == "W4A16" else 0)
