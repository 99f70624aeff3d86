"""Adapters as PEFT saves them, by the bytes: two modules of rank 4 on bard-6m@1."""

from __future__ import annotations

import json
from typing import Any

from factories.checkpoints import safetensors_bytes

CONFIG: dict[str, Any] = {
    "auto_mapping": None,
    "base_model_name_or_path": "bard-6m@1",
    "bias": "none",
    "lora_alpha": 8,
    "lora_dropout": 0.0,
    "modules_to_save": None,
    "peft_type": "LORA",
    "r": 4,
    "rank_pattern": {},
    "alpha_pattern": {},
    "target_modules": ["model.layers.0.mlp.down_proj", "model.layers.0.self_attn.q_proj"],
    "task_type": "CAUSAL_LM",
    "use_dora": False,
    "use_rslora": False,
}

TENSORS: dict[str, tuple[str, tuple[int, ...]]] = {
    "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": ("F32", (4, 16)),
    "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight": ("F32", (16, 4)),
    "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight": ("F32", (4, 32)),
    "base_model.model.model.layers.0.mlp.down_proj.lora_B.weight": ("F32", (16, 4)),
}
"""dtype and shape by name."""


def adapter_contents(weights: bytes | None = None, **changes: Any) -> dict[str, bytes]:
    """Returns the two files of an adapter by path, its config with changes, its weights others where they are given."""
    return {
        "adapter_config.json": json.dumps({**CONFIG, **changes}).encode(),
        "adapter_model.safetensors": safetensors_bytes(TENSORS) if weights is None else weights,
    }
