"""What is written of a quantized model: the dtypes of the master, its config.json, and no bit changed of what was left alone."""

from __future__ import annotations

import json
from typing import Any

import torch
from compressed_tensors import ModelCompressor

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import CheckpointInfo
from quantry_worker.child.backends.llm_compressor.recipe import CHANGES_NORMS
from quantry_worker.child.backends.master_model import TORCH_DTYPES, weights_dtype
from quantry_worker.child.backends.shards import write_config
from quantry_worker.child.backends.table import QuantizationOrder
from quantry_worker.child.numerics.tensors import TensorReader

OWN_RECIPE_FILE = "recipe.yaml"
"""llm-compressor's account of its own settings. The version's recipe is ours."""
MAX_SHARD = "5GB"
SCALES_OF_SCALES = "_global_scale"
"""These stay float32, as engines read them: float16 does not reach that far. Other new tensors are stored as the weights are."""


def save_model(model: Any, order: QuantizationOrder) -> None:
    """Writes the calibrated model, compressed, into the order's output folder."""
    # Compressed in float32: in half precision the last of 8 bits would be rounded a second time.
    ModelCompressor.from_pretrained_model(model).compress_model(model, skip_compressed=True)
    _restore(model, order)
    model.config.dtype = weights_dtype(order.master)
    model.save_pretrained(order.output_dir, max_shard_size=MAX_SHARD)
    (order.output_dir / OWN_RECIPE_FILE).unlink(missing_ok=True)
    saved = json.loads((order.output_dir / "config.json").read_text(encoding="utf-8"))
    write_config(order.output_dir, order.master, saved["quantization_config"])


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
    dtype = weights_dtype(master)
    for name, parameter in model.named_parameters():
        known = master.tensors.get(name)
        if known is None:
            if parameter.dtype is torch.float32 and not name.endswith(SCALES_OF_SCALES):
                parameter.data = parameter.data.to(dtype)
        elif name.removesuffix(".weight") not in order.plan.targets:
            parameter.data = read_tensor(reader, master, name) if is_left_alone else parameter.data.to(TORCH_DTYPES[known.dtype])
