"""Writes a Llama of about 130 million random parameters with the example's tokenizer. Runs in the ml environment.

``python bench/overhead/make_model.py <example folder> <output folder>``
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

example, output = Path(sys.argv[1]), Path(sys.argv[2])
vocabulary = json.loads((example / "config.json").read_text())["vocab_size"]
set_seed(0)
config = LlamaConfig(
    vocab_size=vocabulary,
    hidden_size=1024,
    intermediate_size=2816,
    num_hidden_layers=10,
    num_attention_heads=16,
    num_key_value_heads=16,
    max_position_embeddings=512,
    tie_word_embeddings=True,
)
model = LlamaForCausalLM(config).to(torch.float16)
model.save_pretrained(output)
for name in ("tokenizer.json", "tokenizer_config.json"):
    shutil.copyfile(example / name, output / name)
(output / "model.safetensors").chmod(0o644)
print(sum(parameter.numel() for parameter in model.parameters()))
