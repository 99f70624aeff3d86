"""Trains a small Llama from text files: a byte-level BPE tokenizer, then AdamW with a cosine schedule. One screen to read.

    .venvs/ml/bin/python examples/train_bard.py --out my-bard --steps 3900 kjv.txt shakespeare.txt speeches.txt

The result is a 16-bit master that Quantry imports: config.json, model.safetensors (float16, tied embeddings), tokenizer.
The example bard-6m was trained this way: 3,863 steps of 16 windows of 256 tokens, about two seconds a step on two busy
cores. With ``--steps 20`` it takes a minute and writes nonsense, which is enough to try an import.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

BEGIN, END, PAD = "<s>", "</s>", "<pad>"
CONTEXT_TOKENS = 1024
CHAT_TEMPLATE = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"
WARMUP_STEPS = 100
WEIGHT_DECAY = 0.1
MAX_GRADIENT_NORM = 1.0


def main() -> None:
    options = read_options()
    torch.manual_seed(options.seed)
    texts = [path.read_text(encoding="utf-8") for path in options.texts]
    tokenizer = train_tokenizer(texts, options.vocabulary)
    tokens = torch.tensor([token for text in texts for token in tokenizer.encode(text).ids])
    model = LlamaForCausalLM(architecture(options.vocabulary))
    print(f"{model.num_parameters():,} parameters, {len(tokens):,} tokens of text")
    train(model, batches(tokens, options.batch, options.window, options.seed), options.steps, options.learning_rate)
    save(model, tokenizer, options.out)
    print(f"saved to {options.out}")


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trains a small Llama from text files.")
    parser.add_argument("texts", type=Path, nargs="+", help="UTF-8 text files")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--steps", type=int, default=3900, help="optimizer steps")
    parser.add_argument("--batch", type=int, default=16, help="windows per step")
    parser.add_argument("--window", type=int, default=256, help="tokens per window")
    parser.add_argument("--vocabulary", type=int, default=4096, help="tokens the tokenizer knows")
    parser.add_argument("--learning-rate", type=float, default=2e-3, help="the peak")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def train_tokenizer(texts: list[str], vocabulary: int) -> Tokenizer:
    """Returns a byte-level BPE: every text can be encoded, none needs an unknown token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[BEGIN, END, PAD], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def architecture(vocabulary: int) -> LlamaConfig:
    """Returns a Llama of 5.8 M parameters (at 4,096 tokens) whose sides are multiples of 128, as group-wise quantization likes."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )


def batches(tokens: torch.Tensor, num_windows: int, window: int, seed: int) -> Iterator[torch.Tensor]:
    """Yields windows from random places, shape [num_windows, window], without end."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        starts = torch.randint(len(tokens) - window, (num_windows,), generator=generator)
        yield torch.stack([tokens[start : start + window] for start in starts])


def train(model: Any, windows: Iterator[torch.Tensor], steps: int, peak: float) -> None:
    """Minimizes the next-token loss in place: AdamW (Loshchilov and Hutter 2019), bfloat16 autocast."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.95), weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: share_of_peak(step, steps))
    started = time.monotonic()
    model.train()
    for step in range(1, steps + 1):
        ids = next(windows)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(input_ids=ids, labels=ids).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step in (1, steps):
            print(f"step {step:5d}  loss {loss.item():.3f}  {(time.monotonic() - started) / step:.2f} s a step", flush=True)


def share_of_peak(step: int, steps: int) -> float:
    """Returns the learning rate's share of its peak: a linear warm-up, then half a cosine down to zero."""
    warmup = min(WARMUP_STEPS, steps // 10 + 1)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def save(model: Any, tokenizer: Tokenizer, out: Path) -> None:
    """Writes the float16 master with its tokenizer and chat template."""
    model.generation_config = GenerationConfig.from_model_config(model.config)
    model.to(torch.float16).save_pretrained(out)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        model_max_length=CONTEXT_TOKENS,
        chat_template=CHAT_TEMPLATE,
    ).save_pretrained(out)


if __name__ == "__main__":
    main()
