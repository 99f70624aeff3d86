"""Two compressed-tensors checkpoints: are they the same, and if not, how far are their perplexities apart?

``python bench/methods/parity.py <platform> <bare> <text ...>``, in the ml environment. Imports nothing of Quantry.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, CompressedTensorsConfig

WINDOW = 256
MAX_WINDOWS = 48


def main(platform: str, bare: str, *texts: str) -> None:
    ours, theirs = load_file(Path(platform) / "model.safetensors"), load_file(Path(bare) / "model.safetensors")
    # The platform gives tensors back the dtype of the master; a bare script may leave what it calibrated in.
    same = [name for name in theirs if name in ours and torch.equal(ours[name].float(), theirs[name].to(ours[name].dtype).float())]
    is_identical = set(theirs) == set(ours) and len(same) == len(theirs)
    ratios = {} if is_identical else compare(platform, bare, list(texts))
    print(json.dumps({"is_identical": is_identical, "num_tensors": len(same), "perplexity_ratio": ratios}))


def compare(platform: str, bare: str, texts: list[str]) -> dict[str, float]:
    tokenizer = AutoTokenizer.from_pretrained(platform)
    models = [load(platform), load(bare)]
    ratios = {}
    for text in texts:
        ids = tokenizer(Path(text).read_text(encoding="utf-8"), add_special_tokens=False, verbose=False).input_ids
        losses = [loss(model, torch.tensor(ids)) for model in models]
        ratios[Path(text).name.partition(".")[0]] = math.exp(losses[0] - losses[1])
    return ratios


def load(folder: str) -> Any:
    settings = CompressedTensorsConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=settings).eval()


def loss(model: Any, ids: torch.Tensor) -> float:
    total, count = 0.0, 0
    with torch.inference_mode():
        for start in range(0, len(ids) - WINDOW + 1, WINDOW)[:MAX_WINDOWS]:
            piece = ids[start : start + WINDOW]
            logits = model(input_ids=piece[None]).logits[0, :-1].double()
            total += float(torch.nn.functional.cross_entropy(logits, piece[1:], reduction="sum"))
            count += WINDOW - 1
    return total / count


if __name__ == "__main__":
    main(*sys.argv[1:])
