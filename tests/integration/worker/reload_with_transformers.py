"""Loads checkpoints as a user of transformers would, and scores them. Imports nothing of Quantry.

``python reload_with_transformers.py <windows.npy> <checkpoint ...>`` prints one JSON line for each: mean loss in nats, the keys that
were missing or unexpected, and the logits' distance from those of the first checkpoint, relative to their size.
"""

from __future__ import annotations

import json
import sys

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, CompressedTensorsConfig


def main(windows: str, *checkpoints: str) -> None:
    torch.set_num_threads(2)
    ids = torch.from_numpy(np.load(windows))
    first = None
    for checkpoint in checkpoints:
        is_quantized = hasattr(AutoConfig.from_pretrained(checkpoint), "quantization_config")
        options = {"quantization_config": CompressedTensorsConfig(dequantize=True)} if is_quantized else {}
        model, info = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, output_loading_info=True, **options)
        # 4-bit floats are dequantized to bfloat16 whatever is asked.
        model = model.float().eval()
        with torch.no_grad():
            logits = model(ids).logits.float()
        first = logits if first is None else first
        told = {
            "loss_nats": torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item(),
            "distance": ((logits - first).norm() / first.norm()).item(),
            "missing": sorted(info["missing_keys"]),
            "unexpected": sorted(info["unexpected_keys"]),
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
