"""A quantized version of the example master, written with numpy alone, whose dequantized weights are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from factories.child_runs import MASTER

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def write_version(directory: Path, *, largest_level: int, activations: dict[str, Any] | None) -> Path:
    """Writes the master with weights in whole steps of one scale an output, at most ``largest_level`` of them, stored as int8."""
    directory.mkdir()
    for path in MASTER.iterdir():
        if path.name not in {"config.json", "model.safetensors"}:
            (directory / path.name).write_bytes(path.read_bytes())
    tensors: dict[str, Any] = {}
    for name, tensor in load_file(MASTER / "model.safetensors").items():
        if name.split(".")[-2] not in LINEARS:
            tensors[name] = tensor
            continue
        scale = np.abs(tensor.astype(np.float32)).max(axis=1, keepdims=True) / largest_level
        tensors[name] = np.round(tensor.astype(np.float32) / scale).astype(np.int8)
        tensors[f"{name}_scale"] = scale
    save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    weights = {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False}
    group = {"targets": ["Linear"], "weights": weights, "input_activations": activations, "format": "int-quantized"}
    config = json.loads((MASTER / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": group},
    }
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def dequantized(directory: Path, module: str) -> NDArray[np.float32]:
    """Returns the weight [out, in] that a module of such a version stands for."""
    tensors = load_file(directory / "model.safetensors")
    weight: NDArray[np.float32] = tensors[f"{module}.weight"].astype(np.float32) * tensors[f"{module}.weight_scale"]
    return weight
