"""How far greedy tokens are from what transformers finds likeliest on the same checkpoint. Imports nothing of Quantry.

``python greedy_agreement.py <checkpoint> [<adapter>]`` reads a JSON list of ``{"prompt": [ids], "tokens": [ids]}`` from stdin, and
prints for each token that was chosen how many nats it lies behind the likeliest one, given everything before it: 0 where it is that one.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, CompressedTensorsConfig


def main(checkpoint: str, adapter: str | None = None) -> None:
    answers: list[dict[str, list[int]]] = json.load(sys.stdin)
    torch.set_num_threads(1)
    model = load(checkpoint) if adapter is None else load_adapted(checkpoint, adapter)
    gaps = []
    with torch.inference_mode():
        for answer in answers:
            prompt, tokens = answer["prompt"], answer["tokens"]
            logits = model(input_ids=torch.tensor([prompt + tokens])).logits[0].float()
            behind = torch.log_softmax(logits[len(prompt) - 1 : -1], dim=-1)
            gaps.append([float(row.max() - row[token]) for row, token in zip(behind, tokens, strict=True)])
    print(json.dumps(gaps))


def load(checkpoint: str) -> Any:
    config = AutoConfig.from_pretrained(checkpoint)
    if getattr(config, "quantization_config", {}).get("quant_method") == "gptq":
        return load_gptq(checkpoint)
    # float32, so that what differs is the engine's arithmetic alone.
    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, config=config).eval()


def load_adapted(checkpoint: str, adapter: str) -> Any:
    quantized = hasattr(AutoConfig.from_pretrained(checkpoint), "quantization_config")
    # Plain linears of what the packed weights stand for: PEFT knows no others of this format.
    config = {"quantization_config": CompressedTensorsConfig(run_compressed=False)} if quantized else {}
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32, **config)
    return PeftModel.from_pretrained(model, adapter).eval()


def load_gptq(checkpoint: str) -> Any:
    # Read when the library is imported; with fewer it refuses to start.
    os.environ["GPTQMODEL_CPU_WORKERS"] = "2"
    library: Any = import_module("gptqmodel")
    # Its kernel that is plain torch takes float16 only.
    kind = {"device": "cpu", "backend": library.BACKEND.GPTQ_TORCH, "dtype": torch.float16, "trust_remote_code": False}
    model = library.GPTQModel.load(checkpoint, **kind).model
    for module in model.modules():
        if isinstance(module, library.nn_modules.qlinear.torch.TorchLinear):
            # Compiled, this would want a C++ compiler.
            del module.dequantize_weight
    return model.eval()


if __name__ == "__main__":
    main(*sys.argv[1:])
