"""How far adapters unmerged on an NF4 base are from its dequantized weights with their update, in nats.

Run in the ml environment: ``python adapted_on_nf4.py <master> <scratch folder> <adapter ...>``; prints one JSON list.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from quantry_core.methods import Format
from quantry_worker.child.merging.combine import Combination
from quantry_worker.child.merging.trained import float32_model
from quantry_worker.child.merging.weights import DequantizedWeights
from quantry_worker.child.numerics.adapted import load_adapted
from quantry_worker.child.numerics.divergence import kl_nats
from quantry_worker.child.numerics.low_rank import read_adapter


def main(master: str, folder: str, *adapters: str) -> None:
    base = Path(folder) / "nf4"
    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, llm_int8_skip_modules=["lm_head"]
    )
    AutoModelForCausalLM.from_pretrained(master, quantization_config=settings, dtype=torch.float16, device_map={"": "cpu"}).save_pretrained(
        base
    )
    print(json.dumps([distance(base, Path(master), Path(adapter)) for adapter in adapters]))


def distance(base: Path, master: Path, adapter: Path) -> float:
    weights = DequantizedWeights(base, Format.BITSANDBYTES, master)
    expected = log_probabilities(float32_model(weights, Combination([read_adapter(adapter)], [1.0])))
    return float(kl_nats(expected, log_probabilities(load_adapted(base, adapter))).mean())


def log_probabilities(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=torch.arange(100, 164)[None]).logits
    return torch.log_softmax(logits.float(), dim=-1)


if __name__ == "__main__":
    main(*sys.argv[1:])
