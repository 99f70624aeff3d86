"""Writes small random masters of several families: ``python tiny_families.py <folder> <family ...>``. Imports nothing of Quantry.

Their vocabulary is that of the example model, whose tokenizer they take.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen3Config,
    Qwen3MoeConfig,
)

TOKENIZER_OF = Path(__file__).resolve().parents[3] / "examples" / "bard-6m"
VOCABULARY, HIDDEN, HEADS = 512, 64, 4
COMMON: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": HEADS,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
}
EXPERTS = {"moe_intermediate_size": 64, "num_experts": 4, "num_experts_per_tok": 2, "mlp_only_layers": []}
FAMILIES: dict[str, Any] = {
    "llama": LlamaConfig(**COMMON),
    "qwen3": Qwen3Config(**COMMON),
    "mistral": MistralConfig(**COMMON),
    "gemma2": Gemma2Config(**COMMON),
    "gemma3": Gemma3TextConfig(**COMMON),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=HIDDEN, n_layer=2, n_head=HEADS, n_positions=256),
    "qwen3-moe": Qwen3MoeConfig(**COMMON, **EXPERTS),
}


def main(folder: str, *families: str) -> None:
    for family in families:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(FAMILIES[family])
        for name, parameter in model.named_parameters():
            if "norm" in name:
                # Trained norms are no ones and zeros: what is lost of them would not show.
                parameter.data += 0.1 * torch.randn_like(parameter)
        directory = Path(folder) / family
        model.to(torch.bfloat16).save_pretrained(directory)
        for file in TOKENIZER_OF.glob("tokenizer*"):
            shutil.copyfile(file, directory / file.name)


if __name__ == "__main__":
    main(*sys.argv[1:])
