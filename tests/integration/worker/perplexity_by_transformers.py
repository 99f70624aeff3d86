"""Perplexity of a checkpoint that transformers loads itself, over windows that do not overlap. Imports nothing of Quantry.

``python perplexity_by_transformers.py <checkpoint> <tokenizer> <text> <window_tokens>`` prints one number.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer


def main(checkpoint: str, tokenizer: str, text: str, window_tokens: str) -> float:
    torch.set_num_threads(2)
    torch.set_grad_enabled(False)
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    ids = AutoTokenizer.from_pretrained(tokenizer)(Path(text).read_text(), return_tensors="pt", add_special_tokens=False)["input_ids"][0]
    windows = ids[: len(ids) // int(window_tokens) * int(window_tokens)].view(-1, int(window_tokens))
    # Every window scores all its tokens but the first: equal numbers, so the mean of means is the mean.
    losses = [float(model(input_ids=window[None], labels=window[None]).loss) for window in windows]
    return math.exp(sum(losses) / len(losses))


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
