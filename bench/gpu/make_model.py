"""Writes a Llama of random parameters with the example's tokenizer. Runs in the ml environment.

``python bench/gpu/make_model.py <example folder> <output folder> <shape as JSON>``: the shape is fields of LlamaConfig. Prints how many
parameters it has, and the first GPU's name or an empty line.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, set_seed

example, output = Path(sys.argv[1]), Path(sys.argv[2])
set_seed(0)
model = LlamaForCausalLM(LlamaConfig(**json.loads(sys.argv[3]), tie_word_embeddings=True)).to(torch.bfloat16)
model.save_pretrained(output)
for name in ("tokenizer.json", "tokenizer_config.json"):
    shutil.copyfile(example / name, output / name)
(output / "model.safetensors").chmod(0o644)
print(sum(parameter.numel() for parameter in model.parameters()))
print(torch.cuda.get_device_name(0) if torch.cuda.is_available() else "")
