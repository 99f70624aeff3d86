"""How far greedy tokens are from what transformers finds likeliest on the same checkpoint. Imports nothing of Quantry.

``python greedy_agreement.py <checkpoint>`` reads a JSON list of ``{"prompt": [ids], "tokens": [ids]}`` from stdin, and prints for each
token that was chosen how many nats it lies behind the likeliest one, given everything before it: 0 where it is that one.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM


def main(checkpoint: str) -> None:
    answers: list[dict[str, list[int]]] = json.load(sys.stdin)
    torch.set_num_threads(1)
    # float32, so that what differs is the engine's arithmetic alone.
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, config=AutoConfig.from_pretrained(checkpoint)).eval()
    gaps = []
    with torch.inference_mode():
        for answer in answers:
            prompt, tokens = answer["prompt"], answer["tokens"]
            logits = model(input_ids=torch.tensor([prompt + tokens])).logits[0].float()
            behind = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
            gaps.append([float(row.max() - row[token]) for row, token in zip(behind, tokens, strict=True)])
    print(json.dumps(gaps))


if __name__ == "__main__":
    main(sys.argv[1])
