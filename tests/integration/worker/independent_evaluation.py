"""Strided perplexity, errors of log-probabilities, tail of KL, likeness of attention maps: by plain transformers, nothing of Quantry.

Run in the ml environment: ``python independent_evaluation.py <subject> <reference> <window_tokens> <stride_tokens> <max_windows>
<attention windows> <text file>``; prints one JSON object. Losses come from the model itself, with labels masked as the guide to
perplexity in transformers' documentation masks them. Where the checkpoint says that activations are rounded to int8 for each
token, hooks do that here, on plain weights.
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

MASKED = -100


def main(subject: str, reference: str, *rest: str) -> None:
    *numbers, text = rest
    window, stride, max_windows, attention_windows = map(int, numbers)
    tokenizer = AutoTokenizer.from_pretrained(reference)
    ids = torch.tensor(tokenizer(Path(text).read_text(encoding="utf-8"), add_special_tokens=False).input_ids)[None]
    models = [load(Path(subject)), load(Path(reference))]
    with torch.no_grad():
        figures = measure(models, ids, window, stride, max_windows)
        figures["similarity_by_layer"] = similarities(models, ids, window, stride, attention_windows)
    print(json.dumps(figures))


def load(directory: Path) -> Any:
    """Returns the model in float32; int8 weights become plain ones, activations are rounded."""
    config = AutoConfig.from_pretrained(directory)
    tensors = load_file(directory / "model.safetensors")
    stated = json.loads((directory / "config.json").read_text()).get("quantization_config")
    rounded = [name.removesuffix(".weight_scale") for name in tensors if name.endswith(".weight_scale")]
    for name in rounded:
        tensors[f"{name}.weight"] = tensors[f"{name}.weight"].float() * tensors.pop(f"{name}.weight_scale").float()
    if stated is not None:
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    missing, unexpected = model.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, strict=False)
    if unexpected or set(missing) - {"lm_head.weight"}:
        raise SystemExit(f"missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    rounds_activations = stated is not None and stated["config_groups"]["group_0"]["input_activations"] is not None
    for name in rounded if rounds_activations else []:
        model.get_submodule(name).register_forward_pre_hook(round_per_token)
    return model.eval()


def round_per_token(_module: Any, inputs: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
    """Rounds what goes into a matrix product to int8, one scale a token: its largest magnitude over 127.5, levels -128 to 127."""
    (values,) = inputs
    scale = values.abs().amax(dim=-1, keepdim=True) / 127.5
    return (torch.clamp(torch.round(values / scale), -128, 127) * scale,)


def measure(models: list[Any], ids: torch.Tensor, window: int, stride: int, max_windows: int) -> dict[str, Any]:
    sums, num_tokens, errors, divergences, end_before = [0.0, 0.0], 0, [], [], 0
    for begin in range(0, ids.shape[1], stride)[:max_windows]:
        end = min(begin + window, ids.shape[1])
        piece = ids[:, begin:end]
        labels = piece.clone()
        labels[:, : -(end - end_before)] = MASKED
        scored = int((labels[:, 1:] != MASKED).sum())
        losses, log_probs = [], []
        for index, model in enumerate(models):
            output = model(piece, labels=labels)
            sums[index] += output.loss.item() * scored
            log_p = output.logits[0, -scored - 1 : -1].double().log_softmax(-1)
            log_probs.append(log_p)
            losses.append(-log_p.gather(-1, piece[0, -scored:, None])[:, 0])
        errors.append((losses[0] - losses[1]).abs())
        divergences.append(torch.nn.functional.kl_div(log_probs[0], log_probs[1], reduction="none", log_target=True).sum(-1))
        num_tokens, end_before = num_tokens + scored, end
        if end == ids.shape[1]:
            break
    kl = torch.cat(divergences)
    return {
        "perplexity": math.exp(sums[0] / num_tokens),
        "reference_perplexity": math.exp(sums[1] / num_tokens),
        "num_tokens": num_tokens,
        "logprob_error_mean_nats": torch.cat(errors).mean().item(),
        "logprob_error_p99_nats": torch.cat(errors).quantile(0.99).item(),
        "kl_mean_nats": kl.mean().item(),
        "kl_p999_nats": kl.quantile(0.999).item(),
        "kl_max_nats": kl.max().item(),
    }


def similarities(models: list[Any], ids: torch.Tensor, window: int, stride: int, num_windows: int) -> list[float]:
    """Returns the mean cosine similarity of each layer's rows of attention, one row at a time; the first sees only itself."""
    for model in models:
        model.set_attn_implementation("eager")
    num_layers = models[0].config.num_hidden_layers
    cosines: list[list[float]] = [[] for _ in range(num_layers)]
    for index in range(num_windows):
        piece = ids[:, index * stride : index * stride + window]
        ours, theirs = (model(piece, output_attentions=True).attentions for model in models)
        for layer in range(num_layers):
            a, b = ours[layer][0].double(), theirs[layer][0].double()
            for head in range(len(a)):
                for row in range(1, window):
                    cosines[layer].append((a[head, row] @ b[head, row] / (a[head, row].norm() * b[head, row].norm())).item())
    return [sum(values) / len(values) for values in cosines]


if __name__ == "__main__":
    main(*sys.argv[1:])
