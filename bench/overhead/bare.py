"""The bare script: what an engineer would write with transformers and llm-compressor. Runs in the ml environment.

``python bench/overhead/bare.py <master> <text> <output> <num samples> <length in tokens> <group size>``. Same method, scheme, compute
dtype and number of calibration tokens as the platform's recipe; no gate, no digests, nothing stored anywhere but in a folder.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

master, text, output = sys.argv[1:4]
num_samples, length_tokens, group_size = (int(argument) for argument in sys.argv[4:7])

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
tokenizer = AutoTokenizer.from_pretrained(master)
ids = tokenizer(Path(text).read_text(), add_special_tokens=False, verbose=False).input_ids
rows = [torch.tensor(ids[start : start + length_tokens]) for start in range(0, num_samples * length_tokens, length_tokens)]
batches = DataLoader([{"input_ids": row, "attention_mask": torch.ones_like(row)} for row in rows], batch_size=max(1, 2048 // length_tokens))

model = AutoModelForCausalLM.from_pretrained(master, dtype=torch.float32)
weights = QuantizationArgs(num_bits=4, type="int", symmetric=True, strategy="group", group_size=group_size)
gptq = GPTQModifier(
    config_groups={"group_0": QuantizationScheme(targets=["Linear"], weights=weights)},
    ignore=["lm_head"],
    dampening_frac=0.01,
    actorder="static",
)
oneshot(model=model, recipe=gptq, dataset=batches, pipeline="sequential")
model.to(torch.float16)
model.save_pretrained(output, save_compressed=True)
tokenizer.save_pretrained(output)
