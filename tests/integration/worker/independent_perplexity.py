"""Perplexity, KL and top-1 agreement by plain transformers, one token loss at a time in float64. Imports nothing of Quantry.

Run in the ml environment: ``python independent_perplexity.py <subject> <reference> <window_tokens> <max_windows> <text file ...>``;
prints one JSON list, an object for each text. The compressed weights are unpacked here by arithmetic, not by a library.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer


def main(subject: str, reference: str, window_tokens: str, max_windows: str, *texts: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(reference)
    models = [load(Path(subject)), load(Path(reference))]
    print(json.dumps([measure(models, tokenizer, Path(text), int(window_tokens), int(max_windows)) for text in texts]))


def load(directory: Path) -> Any:
    """Returns the model in float32; packed weights become plain ones first."""
    config = AutoConfig.from_pretrained(directory)
    settings = getattr(config, "quantization_config", None)
    tensors = load_file(directory / "model.safetensors")
    if settings is not None:
        del config.quantization_config
        for name in [name for name in tensors if name.endswith(".weight_packed")]:
            module = name.removesuffix(".weight_packed")
            tensors[f"{module}.weight"] = unpacked(tensors.pop(name), tensors.pop(f"{module}.weight_scale"))
            del tensors[f"{module}.weight_shape"]
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    missing, unexpected = model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise SystemExit(f"missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    return model.eval()


def unpacked(packed: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Returns the weight of packed 4-bit integers: eight to a word, the first lowest, 8 added to each."""
    nibbles = torch.stack([(packed >> (4 * index)) & 0xF for index in range(8)], dim=-1)
    values = nibbles.reshape(packed.shape[0], -1).float() - 8
    return values * scale.float().repeat_interleave(values.shape[1] // scale.shape[1], dim=1)


def measure(models: list[Any], tokenizer: Any, text: Path, window: int, max_windows: int) -> dict[str, float]:
    ids = torch.tensor(tokenizer(text.read_text(encoding="utf-8"), add_special_tokens=False).input_ids)
    losses, reference_losses, divergences, agreements = [], [], [], []
    with torch.no_grad():
        for start in range(0, len(ids) - window + 1, window)[:max_windows]:
            piece = ids[start : start + window]
            subject, reference = (model(piece[None]).logits[0, :-1].double() for model in models)
            losses.append(torch.nn.functional.cross_entropy(subject, piece[1:], reduction="none"))
            reference_losses.append(torch.nn.functional.cross_entropy(reference, piece[1:], reduction="none"))
            log_q, log_p = subject.log_softmax(-1), reference.log_softmax(-1)
            divergences.append(torch.nn.functional.kl_div(log_q, log_p, reduction="none", log_target=True).sum(-1))
            agreements.append(subject.argmax(-1) == reference.argmax(-1))
    return {
        "perplexity": math.exp(torch.cat(losses).mean().item()),
        "reference_perplexity": math.exp(torch.cat(reference_losses).mean().item()),
        "kl_mean_nats": torch.cat(divergences).mean().item(),
        "top1_agreement": torch.cat(agreements).double().mean().item(),
        "num_tokens": sum(len(loss) for loss in losses),
    }


if __name__ == "__main__":
    main(*sys.argv[1:])
