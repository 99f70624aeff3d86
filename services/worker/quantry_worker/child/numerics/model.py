"""Loads a checkpoint for evaluation with transformers: in float32 on the CPU, quantized weights dequantized."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, CompressedTensorsConfig

from quantry_blobs.directory import DirectoryCheckpoint
from quantry_core.checkpoints import read_json


def load_model(directory: Path) -> Any:
    """Returns the causal language model in evaluation mode; every weight is float32 in memory."""
    options: dict[str, Any] = {}
    if "quantization_config" in read_config(directory):
        options["quantization_config"] = CompressedTensorsConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, local_files_only=True, trust_remote_code=False, use_safetensors=True, **options
    )
    return model.eval()


def vocabulary_size(model: Any) -> int:
    """Returns V, the width of the logits."""
    return int(model.get_output_embeddings().weight.shape[0])


def read_config(directory: Path) -> dict[str, Any]:
    """Returns config.json; raises SourceRefused if it is not there or no JSON object."""
    checkpoint = DirectoryCheckpoint(directory)
    return read_json(checkpoint, checkpoint.files(), "config.json")
