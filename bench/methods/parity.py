"""Two quantized checkpoints of one master: are they the same, and if not, how far are their perplexities apart?

``python bench/methods/parity.py <master> <platform> <bare> <text ...>``, in the ml environment. The bare one is a
compressed-tensors folder, or an npz of the tuned weights by module. Imports nothing of Quantry.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, CompressedTensorsConfig

WINDOW = 256
MAX_WINDOWS = 48


def main(master: str, platform: str, bare: str, *texts: str) -> None:
    ours = load(platform)
    theirs = load(bare) if Path(bare).is_dir() else tuned(master, bare)
    same, num_expected = same_tensors(platform, bare) if Path(bare).is_dir() else same_weights(ours, bare)
    is_identical = same == num_expected
    ratios = {} if is_identical else compare(ours, theirs, master, texts)
    print(json.dumps({"is_identical": is_identical, "num_tensors": same, "perplexity_ratio": ratios}))


def same_tensors(platform: str, bare: str) -> tuple[int, int]:
    """Returns how many stored tensors are equal, and how many there are."""
    ours, theirs = load_file(Path(platform) / "model.safetensors"), load_file(Path(bare) / "model.safetensors")
    # The platform gives tensors back the dtype of the master; a bare script may leave what it calibrated in.
    same = [name for name in theirs if name in ours and torch.equal(ours[name].float(), theirs[name].to(ours[name].dtype).float())]
    return len(same), len(ours.keys() | theirs.keys())


def same_weights(ours: Any, bare: str) -> tuple[int, int]:
    """Returns how many tuned weights are equal, and how many there are."""
    weights = dict(ours.named_parameters())
    with np.load(bare) as theirs:
        same = [name for name in theirs.files if np.array_equal(weights[f"{name}.weight"].detach().numpy(), theirs[name])]
        return len(same), len(theirs.files)


def compare(ours: Any, theirs: Any, master: str, texts: tuple[str, ...]) -> dict[str, float]:
    tokenizer = AutoTokenizer.from_pretrained(master)
    ratios = {}
    for text in texts:
        ids = tokenizer(Path(text).read_text(encoding="utf-8"), add_special_tokens=False, verbose=False).input_ids
        losses = [loss(model, torch.tensor(ids)) for model in (ours, theirs)]
        ratios[Path(text).name.partition(".")[0]] = math.exp(losses[0] - losses[1])
    return ratios


def load(folder: str) -> Any:
    settings = CompressedTensorsConfig(dequantize=True)
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, quantization_config=settings).eval()


def tuned(master: str, bare: str) -> Any:
    model = AutoModelForCausalLM.from_pretrained(master, dtype=torch.float32)
    with np.load(bare) as weights:
        for name in weights.files:
            model.get_submodule(name).weight.data = torch.from_numpy(weights[name])
    return model.eval()


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
