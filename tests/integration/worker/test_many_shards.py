"""Methods that look at weights alone, on a checkpoint that is far larger than what is to be in memory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import INDEX_PATH, inspect_checkpoint

from .test_llm_compressor import DATA_FREE, quantize_all

LAYERS, HIDDEN, INTERMEDIATE = 28, 1024, 2816


def write_many_shards(directory: Path) -> Path:
    """Writes a Llama-shaped master of 700 MB in 84 shards; keys and values lie in another shard than their queries."""
    directory.mkdir()
    generator = np.random.default_rng(0)
    parts = [
        {"self_attn.q_proj": (HIDDEN, HIDDEN), "self_attn.o_proj": (HIDDEN, HIDDEN)},
        {"self_attn.k_proj": (HIDDEN, HIDDEN), "self_attn.v_proj": (HIDDEN, HIDDEN), "mlp.gate_proj": (INTERMEDIATE, HIDDEN)},
        {"mlp.up_proj": (INTERMEDIATE, HIDDEN), "mlp.down_proj": (HIDDEN, INTERMEDIATE)},
    ]
    weight_map: dict[str, str] = {}
    for index in range(LAYERS * len(parts)):
        layer, shapes = index // len(parts), parts[index % len(parts)]
        file = f"model-{index + 1:05d}-of-{LAYERS * len(parts):05d}.safetensors"
        tensors = {
            f"model.layers.{layer}.{name}.weight": (generator.standard_normal(shape, np.float32) * 0.02).astype(np.float16)
            for name, shape in shapes.items()
        }
        if index == 0:
            tensors["model.embed_tokens.weight"] = np.ones((64, HIDDEN), np.float16)
        save_file(tensors, directory / file)
        weight_map |= dict.fromkeys(tensors, file)
    (directory / INDEX_PATH).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    (directory / "tokenizer.json").write_text("{}")
    config = {"model_type": "llama", "tie_word_embeddings": True, "hidden_size": HIDDEN, "max_position_embeddings": 256}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


@pytest.mark.long
def test_a_checkpoint_of_many_shards_is_never_wholly_in_memory(tmp_path: Path) -> None:
    master = write_many_shards(tmp_path / "master")
    total = inspect_checkpoint(DirectoryCheckpoint(master)).weights_bytes
    assert total > 700e6
    for name in ("rtn", "fp8-dynamic", "nvfp4a16", "mxfp4"):
        folder = tmp_path / name
        folder.mkdir()
        # A process for each, so that what one leaves behind is not the next one's.
        one = quantize_all(folder, {name: DATA_FREE[name]}, tmp_path, master)[name]
        # Measured: 0.12 of the checkpoint for rtn, 0.14 for fp8, 0.20 for nvfp4 and 0.17 for mxfp4.
        assert one.told["growth_bytes"] < 0.25 * total, (name, one.told)
        assert one.told["layers"][-1] == [LAYERS, LAYERS]
        info = one.info
        assert len({path for path in info.files if path.endswith(".safetensors")}) > 2 * LAYERS
        assert info.weights_bytes < 0.6 * total
