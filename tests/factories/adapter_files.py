"""Adapters as files, written with numpy alone, and what they make of a weight: formulas that share no code with the product."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from quantry_core.training import AdapterKind

Floats = NDArray[np.floating[Any]]


def write_adapter(
    directory: Path,
    modules: Mapping[str, tuple[int, int]],
    *,
    kind: AdapterKind = AdapterKind.LORA,
    rank: int = 4,
    alpha: float = 8.0,
    seed: int = 0,
    base_ref: str = "bard@1",
    spread: float = 0.05,
) -> Path:
    """Writes an adapter of random numbers for modules of these (out, in), as PEFT saves one."""
    directory.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    tensors: dict[str, Any] = {}
    for module, (rows, columns) in modules.items():
        place = f"base_model.model.{module}"
        tensors[f"{place}.lora_A.weight"] = generator.normal(0, spread, (rank, columns)).astype(np.float32)
        tensors[f"{place}.lora_B.weight"] = generator.normal(0, spread, (rows, rank)).astype(np.float32)
        if kind is AdapterKind.DORA:
            tensors[f"{place}.lora_magnitude_vector"] = generator.uniform(0.5, 1.5, rows).astype(np.float32)
    save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_ref,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "target_modules": sorted(modules),
        "use_dora": kind is AdapterKind.DORA,
        "use_rslora": kind is AdapterKind.RSLORA,
    }
    (directory / "adapter_config.json").write_text(json.dumps(config))
    return directory


def adapted_weight(adapter: Path, module: str, weight: Floats) -> Floats:
    """Returns a weight [out, in] with the adapter in it, in float64."""
    config = json.loads((adapter / "adapter_config.json").read_text())
    tensors = load_file(adapter / "adapter_model.safetensors")
    a, b = (tensors[f"base_model.model.{module}.lora_{one}.weight"].astype(np.float64) for one in "AB")
    divisor = config["r"] ** 0.5 if config["use_rslora"] else config["r"]
    adapted: Floats = weight.astype(np.float64) + config["lora_alpha"] / divisor * (b @ a)
    if config["use_dora"]:
        magnitude = tensors[f"base_model.model.{module}.lora_magnitude_vector"].astype(np.float64)
        adapted *= (magnitude / np.linalg.norm(adapted, axis=1))[:, None]
    return adapted


def linear_shapes(checkpoint: Path, *names: str) -> dict[str, tuple[int, int]]:
    """Returns the (out, in) of a checkpoint's modules whose last names are among ``names``."""
    found = {}
    for path in sorted(checkpoint.glob("*.safetensors")):
        for name, tensor in load_file(path).items():
            module = name.removesuffix(".weight")
            if module != name and module.rpartition(".")[2] in names:
                found[module] = (tensor.shape[0], tensor.shape[1])
    return found
