"""What is written of a quantized model: the dtypes of the master, its config.json, and no bit changed of what was left alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from compressed_tensors import ModelCompressor

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import CheckpointInfo, check_master
from quantry_worker.child.backends.llm_compressor.recipe import CHANGES_NORMS
from quantry_worker.child.backends.table import QuantizationOrder
from quantry_worker.child.numerics.tensors import TensorReader

OWN_RECIPE_FILE = "recipe.yaml"
"""llm-compressor's account of its own settings. The version's recipe is ours."""
MAX_SHARD = "5GB"
SCALES_OF_SCALES = "_global_scale"
"""These stay float32, as engines read them: float16 does not reach that far. Other new tensors are stored as the weights are."""
TORCH_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}


def save_model(model: Any, order: QuantizationOrder) -> None:
    """Writes the calibrated model, compressed, into the order's output folder."""
    # Compressed in float32: in half precision the last of 8 bits would be rounded a second time.
    ModelCompressor.from_pretrained_model(model).compress_model(model, skip_compressed=True)
    _restore(model, order)
    model.config.dtype = getattr(torch, check_master(order.master))
    model.save_pretrained(order.output_dir, max_shard_size=MAX_SHARD)
    (order.output_dir / OWN_RECIPE_FILE).unlink(missing_ok=True)
    path = order.output_dir / "config.json"
    saved = json.loads(path.read_text(encoding="utf-8"))
    write_config(path, order.master, saved["quantization_config"])


def write_config(path: Path, master: CheckpointInfo, quantization_config: dict[str, Any]) -> None:
    """Writes the master's own config.json with quantization_config added: transformers rewrites it in its own version's words."""
    config = master.config | {"quantization_config": quantization_config}
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_tensor(reader: TensorReader, master: CheckpointInfo, name: str) -> torch.Tensor:
    """Returns a tensor of the master in its own dtype and shape."""
    shape = master.tensors[name].shape
    raw = reader.byte_rows(name, 0, shape[0] if shape else 1)
    return torch.from_numpy(raw.reshape(-1).copy()).view(TORCH_DTYPES[master.tensors[name].dtype]).reshape(shape)


def _restore(model: Any, order: QuantizationOrder) -> None:
    """Gives every tensor the dtype it has in the master, and new ones that of the weights.

    What the method left alone is the master's bit for bit: llm-compressor rewrites Gemma's norms as 1 + w and back.
    """
    master, is_left_alone = order.master, order.plan.method.method not in CHANGES_NORMS
    reader = TensorReader(DirectoryCheckpoint(order.master_dir), master)
    weights_dtype = getattr(torch, check_master(master))
    for name, parameter in model.named_parameters():
        known = master.tensors.get(name)
        if known is None:
            if parameter.dtype is torch.float32 and not name.endswith(SCALES_OF_SCALES):
                parameter.data = parameter.data.to(weights_dtype)
        elif name.removesuffix(".weight") not in order.plan.targets:
            parameter.data = read_tensor(reader, master, name) if is_left_alone else parameter.data.to(TORCH_DTYPES[known.dtype])
