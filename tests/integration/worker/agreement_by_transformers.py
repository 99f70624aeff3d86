"""How often a checkpoint and its master, both loaded by transformers, agree on the next token. Imports nothing of Quantry.

``python agreement_by_transformers.py <checkpoint> <master>`` prints one JSON object.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from transformers import AutoModelForCausalLM

NUM_TOKENS = 512


def main(checkpoint: str, master: str) -> dict[str, Any]:
    torch.set_num_threads(2)
    torch.set_grad_enabled(False)
    quantized = AutoModelForCausalLM.from_pretrained(checkpoint)
    reference = AutoModelForCausalLM.from_pretrained(master, dtype=torch.float32)
    tokens = torch.arange(NUM_TOKENS)[None] * 37 % reference.config.vocab_size
    top1 = quantized(tokens).logits.argmax(-1) == reference(tokens).logits.argmax(-1)
    kinds = [type(module).__module__.partition(".")[0] for module in quantized.modules()]
    return {"top1": float(top1.float().mean()), "num_quantized": kinds.count("bitsandbytes")}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
